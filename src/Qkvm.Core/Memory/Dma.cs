using System.Buffers.Binary;
using Qkvm.Host;

namespace Qkvm.Core.Memory;

/// <summary>A bus master's way to guest memory. It reaches RAM and ROM alone, so that no device can be driven into
/// another's registers (or its own) by a hostile address; anything else fails and reads as zeros.</summary>
public sealed class Dma(AddressSpace memory)
{
    /// <summary>Bus Master Enable; while clear every access fails.</summary>
    public bool Enabled { get; set; } = true;

    /// <summary>What an IOMMU makes of its addresses; null: they are guest memory's.</summary>
    public IDmaTranslation? Translation { get; set; }

    /// <summary>What it reaches without translation, for others who shall.</summary>
    public AddressSpace Memory => memory;

    public bool Read(ulong address, Span<byte> data)
    {
        while (data.Length > 0)
        {
            if (!TryGetRam(address, false, out GuestRam ram, out ulong offset, out ulong length))
            {
                data.Clear();
                return false;
            }
            int count = (int)Math.Min((ulong)data.Length, length);
            ram.Span(offset, count).CopyTo(data);
            address += (ulong)count;
            data = data[count..];
        }
        return true;
    }

    public bool Write(ulong address, ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            if (!TryGetRam(address, true, out GuestRam ram, out ulong offset, out ulong length))
                return false;
            int count = (int)Math.Min((ulong)data.Length, length);
            data[..count].CopyTo(ram.Span(offset, count));
            ram.MarkWritten(offset, (ulong)count);
            address += (ulong)count;
            data = data[count..];
        }
        return true;
    }

    /// <summary>1, 2, 4 or 8 bytes, little endian; atomic where aligned inside RAM. Zero on failure.</summary>
    public ulong Read(ulong address, int size)
    {
        if (!TryGetRam(address, false, out GuestRam ram, out ulong offset, out ulong length)) return 0;
        if (length >= (ulong)size) return ram.Read(offset, size);
        Span<byte> data = stackalloc byte[8];
        data.Clear();
        Read(address, data[..size]);
        return BinaryPrimitives.ReadUInt64LittleEndian(data);
    }

    public bool Write(ulong address, int size, ulong value)
    {
        if (!TryGetRam(address, true, out GuestRam ram, out ulong offset, out ulong length)) return false;
        if (length >= (ulong)size)
        {
            ram.Write(offset, size, value);
            return true;
        }
        Span<byte> data = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, value);
        return Write(address, data[..size]);
    }

    /// <summary>Appends the RAM of [address, address + length) to a list for I/O without copying. False, and nothing
    /// appended, where any byte is not (writable) RAM. After writing through it call
    /// <see cref="MarkWritten"/>.</summary>
    public bool TryMap(ulong address, uint length, bool write, List<Memory<byte>> segments)
    {
        int before = segments.Count;
        while (length > 0)
        {
            if (!TryGetRam(address, write, out GuestRam ram, out ulong offset, out ulong available))
            {
                segments.RemoveRange(before, segments.Count - before);
                return false;
            }
            int count = (int)Math.Min(Math.Min(length, available), 1u << 30);
            segments.Add(ram.Memory(offset, count));
            (address, length) = (address + (ulong)count, length - (uint)count);
        }
        return true;
    }

    /// <summary>Gives a page of RAM back to the host, which then reads as zeros; false for anything but writable
    /// RAM. The address is guest memory's, translation or not.</summary>
    public bool TryDiscardPage(ulong address)
    {
        if (!Enabled || !memory.TryGetRam(address, true, out GuestRam ram, out ulong offset, out ulong length))
            return false;
        if (length < GuestRam.PageSize || offset % GuestRam.PageSize != 0) return false;
        ram.Discard(offset, GuestRam.PageSize);
        return true;
    }

    /// <summary>Gives the pages that lie wholly in a range of RAM back to the host.</summary>
    public void DiscardPages(ulong address, uint length)
    {
        const ulong InPage = GuestRam.PageSize - 1;
        ulong end = address + length;
        address = address + InPage & ~InPage;
        while (address + GuestRam.PageSize <= end && Enabled
            && memory.TryGetRam(address, true, out GuestRam ram, out ulong offset, out ulong available))
        {
            ulong count = Math.Min(end - address, available) & ~InPage;
            if (count == 0 || offset % GuestRam.PageSize != 0) return;
            ram.Discard(offset, count);
            address += count;
        }
    }

    /// <summary>Announces bytes that were written through <see cref="TryMap"/>.</summary>
    public void MarkWritten(ulong address, ulong length)
    {
        while (length > 0 && TryGetRam(address, true, out GuestRam ram, out ulong offset, out ulong available))
        {
            ulong count = Math.Min(length, available);
            ram.MarkWritten(offset, count);
            (address, length) = (address + count, length - count);
        }
    }

    /// <summary>The RAM at an address and how much of it follows there.</summary>
    bool TryGetRam(ulong address, bool write, out GuestRam ram, out ulong offset, out ulong length)
    {
        (ram, offset, length) = (null!, 0, 0);
        if (!Enabled) return false;
        if (Translation is not { } translation)
            return memory.TryGetRam(address, write, out ram, out offset, out length);
        if (!translation.TryTranslate(address, write, out ulong translated, out ulong most)
            || !memory.TryGetRam(translated, write, out ram, out offset, out length)) return false;
        length = Math.Min(length, most);
        return true;
    }
}
