using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Hw.Nvme;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Nvme;

/// <summary>A controller with a namespace of 1 MiB, and a driver of it by the registers of NVMe 1.4, restated
/// here.</summary>
sealed class NvmeBench : IDisposable
{
    public const ulong Bar = 0xC000_0000, AdminSubmission = 0x10_0000, AdminCompletion = 0x11_0000, Data = 0x20_0000,
        List = 0x30_0000;
    public const uint Cap = 0, Vs = 8, Intms = 0xC, Intmc = 0x10, Cc = 0x14, Csts = 0x1C, Aqa = 0x24, Asq = 0x28,
        Acq = 0x30, Doorbell = 0x1000;
    public const int AdminEntries = 8, Entries = 4;

    readonly int[] _tail = new int[4], _head = new int[4];
    readonly bool[] _phase = [true, true, true, true];

    public NvmeBench(int vectors = 4, MemoryDisk? second = null)
    {
        Controller = new("nvme", new NvmeOptions("S1", IoQueues: 3, Vectors: vectors, MaxTransfer: 5), Pci.Pump.Post);
        Controller.Add(Namespace(Disk), id: 1);
        if (second != null) Controller.Add(Namespace(second), id: 0);
        Pci.Plug(Controller, 3);
        Pci.Bus.WriteConfig(Controller.DevFn, 0x10, 4, unchecked((uint)Bar));
    }

    public PciBench Pci { get; } = new();
    public MemoryDisk Disk { get; } = new(1 << 20);
    public Hw.Nvme.Nvme Controller { get; }
    public BlockBackend Backend { get; private set; } = null!;

    public void Dispose() => Pci.Dispose();

    NvmeNamespace Namespace(MemoryDisk disk)
    {
        Backend = new BlockBackend("drive", Pci.Pump.Post);
        Backend.Insert(disk);
        return new NvmeNamespace(Backend, 512, Guid.Empty, 0);
    }

    public uint this[uint register]
    {
        get => (uint)Pci.Memory.Space.Read(Bar + register, 4);
        set => Pci.Memory.Space.Write(Bar + register, 4, value);
    }

    public void Start()
    {
        Array.Clear(_tail);
        Array.Clear(_head);
        Array.Fill(_phase, true);
        Pci.Memory.Space.Write(AdminSubmission, new byte[0x4_0000]);   // all queues, as drivers clear them
        this[Aqa] = (AdminEntries - 1) << 16 | (AdminEntries - 1);
        (this[Asq], this[Asq + 4]) = ((uint)AdminSubmission, 0);
        (this[Acq], this[Acq + 4]) = ((uint)AdminCompletion, 0);
        this[Cc] = 4 << 20 | 6 << 16 | 1;
        Assert.Equal(1u, this[Csts]);
    }

    static (ulong Submission, ulong Completion, int Entries) Place(int queue) => queue == 0
        ? (AdminSubmission, AdminCompletion, AdminEntries)
        : (0x12_0000UL + (ulong)queue * 0x2000, 0x12_1000UL + (ulong)queue * 0x2000, Entries);

    public static byte[] Command(byte opcode, ushort id, uint nsid = 0, ulong prp1 = 0, ulong prp2 = 0, uint cdw10 = 0,
        uint cdw11 = 0, uint cdw12 = 0)
    {
        byte[] entry = new byte[64];
        entry[0] = opcode;
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(2), id);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(4), nsid);
        BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(24), prp1);
        BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(32), prp2);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(40), cdw10);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(44), cdw11);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(48), cdw12);
        return entry;
    }

    /// <summary>Puts a command into a queue and rings.</summary>
    public void Submit(int queue, byte[] entry, bool rings = true)
    {
        (ulong at, _, int entries) = Place(queue);
        Pci.Memory.Space.Write(at + (ulong)_tail[queue] * 64, entry);
        _tail[queue] = (_tail[queue] + 1) % entries;
        if (rings) Ring(queue);
    }

    public void Ring(int queue) => this[Doorbell + (uint)queue * 8] = (uint)_tail[queue];

    /// <summary>The next completion, or null; the driver tells that it has looked where it is asked to.</summary>
    public (uint Result, ushort Id, ushort Status, int Head)? Look(int queue, bool tells = true)
    {
        (_, ulong at, int entries) = Place(queue);
        byte[] entry = Pci.Memory.Bytes(at + (ulong)_head[queue] * 16, 16);
        ushort status = BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(14));
        if ((status & 1) != 0 != _phase[queue]) return null;
        Assert.Equal(queue, BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(10)));
        if (++_head[queue] == entries) (_head[queue], _phase[queue]) = (0, !_phase[queue]);
        if (tells) this[Doorbell + (uint)queue * 8 + 4] = (uint)_head[queue];
        return (BinaryPrimitives.ReadUInt32LittleEndian(entry),
            BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(12)), (ushort)(status >> 1 & 0x7FF),
            BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(8)));
    }

    public void Tell(int queue) => this[Doorbell + (uint)queue * 8 + 4] = (uint)_head[queue];

    /// <summary>A command to its end: status, and result.</summary>
    public (ushort Status, uint Result) Run(int queue, byte[] entry)
    {
        Submit(queue, entry);
        (uint Result, ushort Id, ushort Status, int Head)? end = null;
        Pci.Pump.Until(() => (end ??= Look(queue)) != null);
        Assert.Equal(BinaryPrimitives.ReadUInt16LittleEndian(entry.AsSpan(2)), end!.Value.Id);
        return (end.Value.Status, end.Value.Result);
    }

    /// <summary>A pair of I/O queues.</summary>
    public void MakeQueue(int queue, int vector = 0)
    {
        (ulong submission, ulong completion, int entries) = Place(queue);
        uint size = (uint)(entries - 1) << 16 | (uint)queue;
        Assert.Equal(0, Run(0, Command(5, 1, prp1: completion, cdw10: size, cdw11: (uint)vector << 16 | 3)).Status);
        Assert.Equal(0, Run(0, Command(1, 2, prp1: submission, cdw10: size, cdw11: (uint)queue << 16 | 1)).Status);
    }
}
