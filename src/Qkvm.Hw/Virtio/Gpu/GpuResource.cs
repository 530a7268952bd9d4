using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Virtio.Gpu;

/// <summary>A picture of the host's, and the guest's memory that it is filled from. Virtio 1.2, section
/// 5.7.6.8.</summary>
sealed class GpuResource
{
    public const int PixelSize = 4, MostEntries = 16384, MostSide = 16384;

    /// <summary>Formats of the section, by the bytes of a pixel in memory: where blue, green and red stand.</summary>
    static readonly (uint Format, int Blue, int Green, int Red)[] s_formats =
    [
        (1, 0, 1, 2), (2, 0, 1, 2), (3, 3, 2, 1), (4, 3, 2, 1), (67, 2, 1, 0), (68, 1, 2, 3), (121, 1, 2, 3),
        (134, 2, 1, 0),
    ];

    readonly int _blue, _green, _red;
    readonly byte[] _bytes;
    (ulong Address, uint Length)[] _backing = [];

    GpuResource(uint id, uint format, int width, int height)
    {
        (Id, Format, Width, Height) = (id, format, width, height);
        (_, _blue, _green, _red) = Array.Find(s_formats, f => f.Format == format);
        _bytes = new byte[Bytes(width, height)];
    }

    public uint Id { get; }
    public uint Format { get; }
    public int Width { get; }
    public int Height { get; }
    public long Size => _bytes.Length;
    public bool HasBacking => _backing.Length > 0;

    static long Bytes(int width, int height) => (long)width * height * PixelSize;

    /// <param name="room">Bytes that there are for it.</param>
    /// <returns>Null where it cannot be.</returns>
    public static GpuResource? Create(uint id, uint format, uint width, uint height, long room, out bool isTooLarge)
    {
        isTooLarge = false;
        if (!Array.Exists(s_formats, f => f.Format == format) || width == 0 || height == 0) return null;
        isTooLarge = width > MostSide || height > MostSide || Bytes((int)width, (int)height) > room;
        return isTooLarge ? null : new GpuResource(id, format, (int)width, (int)height);
    }

    public void Attach((ulong, uint)[] backing) => _backing = backing;

    /// <summary>Whether a rectangle lies in the picture.</summary>
    public bool Contains(in GpuRectangle r) => r.Width <= Width && r.Height <= Height && r.X <= Width - r.Width
        && r.Y <= Height - r.Height;

    /// <summary>Section 5.7.6.8, TRANSFER_TO_HOST_2D: rows of the picture's length lie in the guest's memory from the
    /// offset on. What lies outside memory leaves the picture as it is.</summary>
    public void Transfer(Dma dma, in GpuRectangle r, ulong offset)
    {
        int entry = 0;
        ulong passed = 0;                                          // bytes of the entries before
        for (int y = 0; y < r.Height; y++)
        {
            Span<byte> row = _bytes.AsSpan((int)(((r.Y + y) * Width + r.X) * PixelSize), (int)r.Width * PixelSize);
            ulong at = offset + (ulong)y * (ulong)Width * PixelSize;
            while (row.Length > 0)
            {
                while (entry < _backing.Length && at - passed >= _backing[entry].Length)
                    passed += _backing[entry++].Length;
                if (entry == _backing.Length) return;
                ulong inside = at - passed;
                int count = (int)Math.Min((ulong)row.Length, _backing[entry].Length - inside);
                dma.Read(_backing[entry].Address + inside, row[..count]);
                row = row[count..];
                at += (ulong)count;
            }
        }
    }

    /// <summary>A part of a row as 0x00RRGGBB.</summary>
    public void Paint(Span<uint> pixels, int x, int y)
    {
        ReadOnlySpan<byte> source = _bytes.AsSpan((y * Width + x) * PixelSize, pixels.Length * PixelSize);
        for (int i = 0; i < pixels.Length; i++)
        {
            ReadOnlySpan<byte> pixel = source.Slice(i * PixelSize, PixelSize);
            pixels[i] = pixel[_blue] | (uint)pixel[_green] << 8 | (uint)pixel[_red] << 16;
        }
    }

    /// <summary>A pixel as it is in memory: of a cursor, whose last byte is how much of it is seen.</summary>
    public uint Raw(int x, int y) =>
        BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan((y * Width + x) * PixelSize));

    public static GpuResource Load(StateStream state, long room) => Exchange(state, null, room);

    public void Save(StateStream state) => Exchange(state, this, 0);

    static GpuResource Exchange(StateStream state, GpuResource? saved, long room)
    {
        uint id = saved?.Id ?? 0, format = saved?.Format ?? 0, width = (uint)(saved?.Width ?? 0),
            height = (uint)(saved?.Height ?? 0);
        state.Field("id", ref id);
        state.Field("format", ref format);
        state.Field("width", ref width);
        state.Field("height", ref height);
        GpuResource resource = saved ?? Create(id, format, width, height, room, out _)
            ?? throw state.Refuse("width", "there can be no such picture");
        state.Block("pixels", resource._bytes);
        byte[] backing = Packed(resource._backing);
        state.Blob("backing", ref backing, MostEntries * EntrySize);
        if (saved == null) resource._backing = Entries(backing, state);
        return resource;
    }

    const int EntrySize = sizeof(ulong) + sizeof(uint);

    static byte[] Packed((ulong Address, uint Length)[] entries)
    {
        var bytes = new byte[entries.Length * EntrySize];
        for (int i = 0; i < entries.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * EntrySize), entries[i].Address);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(i * EntrySize + 8), entries[i].Length);
        }
        return bytes;
    }

    static (ulong, uint)[] Entries(byte[] bytes, StateStream state)
    {
        if (bytes.Length % EntrySize != 0) throw state.Refuse("backing", "its last entry is cut");
        var entries = new (ulong, uint)[bytes.Length / EntrySize];
        for (int i = 0; i < entries.Length; i++)
            entries[i] = (BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(i * EntrySize)),
                BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(i * EntrySize + 8)));
        return entries;
    }
}

/// <summary>struct virtio_gpu_rect.</summary>
readonly record struct GpuRectangle(uint X, uint Y, uint Width, uint Height);
