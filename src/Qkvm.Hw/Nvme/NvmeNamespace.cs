using System.Buffers.Binary;
using System.Numerics;
using Qkvm.Core.Block;

namespace Qkvm.Hw.Nvme;

/// <summary>A namespace: its number, its medium and what it counts. NVMe 1.4, section 6.1.</summary>
public sealed class NvmeNamespace(BlockBackend backend, int blockSize, Guid uuid, ulong eui64)
{
    const int Lbaf0 = 128;
    // NSFEAT: deallocated blocks tell of errors, NPDG and NPDA are told
    const byte DeallocatedError = 1 << 2, OptimalFields = 1 << 4, ReadsZeros = 1;
    const ushort DiscardBlocks = 8;                                // of 512 bytes: a cluster of 4 KiB

    public int Id { get; set; }
    public BlockBackend Backend => backend;
    public int BlockSize => blockSize;
    public ulong Blocks => (ulong)backend.Length / (ulong)blockSize;

    // not migrated: of this host's session, as in QEMU
    public ulong ReadCommands { get; set; }
    public ulong WriteCommands { get; set; }
    public ulong BytesRead { get; set; }
    public ulong BytesWritten { get; set; }

    /// <summary>Figure 247.</summary>
    public void Identify(Span<byte> data)
    {
        for (int at = 0; at <= 16; at += 8) BinaryPrimitives.WriteUInt64LittleEndian(data[at..], Blocks);
        data[24] = DeallocatedError | OptimalFields;               // NSFEAT
        data[33] = ReadsZeros;                                     // DLFEAT
        ushort granularity = (ushort)(Math.Max(DiscardBlocks * 512 / blockSize, 1) - 1);
        BinaryPrimitives.WriteUInt16LittleEndian(data[68..], granularity);   // NPDG, NPDA
        BinaryPrimitives.WriteUInt16LittleEndian(data[70..], granularity);
        if (backend.IsReadOnly) data[99] = 1;                      // NSATTR: write protected
        BinaryPrimitives.WriteUInt64BigEndian(data[120..], eui64);
        data[Lbaf0 + 2] = (byte)BitOperations.Log2((uint)blockSize);
    }

    /// <summary>Namespace identification descriptors, figure 249.</summary>
    public void Describe(Span<byte> data)
    {
        const byte eui64Type = 1, uuidType = 3, commandSetType = 4;
        int at = 0;
        Span<byte> id = stackalloc byte[16];
        uuid.TryWriteBytes(id, bigEndian: true, out _);
        if (uuid != Guid.Empty) Add(data, uuidType, id);
        BinaryPrimitives.WriteUInt64BigEndian(id, eui64);
        if (eui64 != 0) Add(data, eui64Type, id[..8]);
        Add(data, commandSetType, [0]);

        void Add(Span<byte> list, byte type, ReadOnlySpan<byte> value)
        {
            (list[at], list[at + 1]) = (type, (byte)value.Length);
            value.CopyTo(list[(at + 4)..]);
            at += 4 + value.Length;
        }
    }
}
