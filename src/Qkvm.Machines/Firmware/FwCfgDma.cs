using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Machines.Firmware;

/// <summary>fw_cfg's DMA interface: the guest writes the big-endian address of a control structure. Spec: QEMU's
/// docs/specs/fw_cfg, "DMA Interface".</summary>
sealed class FwCfgDma(FwCfg items, Dma memory) : IRegisterBank
{
    const ulong Signature = 0x51454D5520434647;                    // "QEMU CFG"
    const ulong AddressHigh = 0, AddressLow = 4;

    // FWCfgDmaAccess: control, length, address
    const int StructureSize = 16;
    const uint Error = 1, ReadItem = 2, Skip = 4, SelectItem = 8, WriteItem = 16;

    ulong _address;

    public ulong Read(ulong offset, int size)
    {
        ulong value = 0;                                           // the signature's bytes stand in memory order
        for (int i = 0; i < size && (int)offset + i < 8; i++)
            value |= (Signature >> (7 - (int)offset - i) * 8 & 0xFF) << (i * 8);
        return value;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        switch (offset, size)
        {
            case (AddressHigh, 4):
                _address = Swap(value, 4) << 32;
                break;
            case (AddressLow, 4):
                _address = _address & ~0xFFFF_FFFFUL | Swap(value, 4);
                Transfer();
                break;
            case (AddressHigh, 8):
                _address = Swap(value, 8);
                Transfer();
                break;
        }
    }

    public void Reset() => _address = 0;

    public void Exchange(StateStream state) => state.Field("address", ref _address);

    static ulong Swap(ulong value, int size) => BinaryPrimitives.ReverseEndianness(value) >> (8 - size) * 8;

    void Transfer()
    {
        ulong at = _address;
        _address = 0;
        Span<byte> structure = stackalloc byte[StructureSize];
        if (!memory.Read(at, structure)) return;
        uint control = BinaryPrimitives.ReadUInt32BigEndian(structure);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(structure[4..]);
        ulong address = BinaryPrimitives.ReadUInt64BigEndian(structure[8..]);
        if ((control & SelectItem) != 0) items.Select((ushort)(control >> 16));
        bool done = true;
        if ((control & ReadItem) != 0) done = CopyOut(address, length);
        else if ((control & WriteItem) != 0) done = CopyIn(address, length);
        else if ((control & Skip) != 0) items.Take(length);
        memory.Write(at, 4, BinaryPrimitives.ReverseEndianness(done ? 0 : Error));
    }

    /// <summary>All or nothing.</summary>
    bool CopyIn(ulong address, uint length)
    {
        Span<byte> target = items.TakeWritable(length);
        return target.Length > 0 && memory.Read(address, target);
    }

    /// <summary>The item's bytes, then zeros up to the length that was asked for, as far as there is memory.</summary>
    bool CopyOut(ulong address, uint length)
    {
        ReadOnlySpan<byte> data = items.Take(length);
        if (!memory.Write(address, data)) return false;
        address += (uint)data.Length;
        Span<byte> zeros = stackalloc byte[512];
        zeros.Clear();
        for (uint left = length - (uint)data.Length; left > 0;)
        {
            uint count = Math.Min(left, (uint)zeros.Length);
            if (!memory.Write(address, zeros[..(int)count])) return false;
            (address, left) = (address + count, left - count);
        }
        return true;
    }
}
