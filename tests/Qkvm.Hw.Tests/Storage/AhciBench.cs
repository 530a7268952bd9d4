using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Testing;
using static Qkvm.Hw.Storage.AhciRegisters;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>An AHCI controller with a hard disk on port 0 and a CD-ROM on port 1, and a driver's way to them.</summary>
sealed class AhciBench : IDisposable
{
    public const ulong Registers = 0xFE00_0000, Pair = 0xC000, Data = 0x10_0000;
    public const uint Lists = 0x1_0000, Received = 0x2_0000, Tables = 0x4_0000, PerPort = 0x1000, PerSlot = 0x800;
    public const byte Good = 0x50, Bad = 0x51, Busy = 0x80, DataRequest = 8;
    public const int MsiAt = 0x80;

    public AhciBench(int diskSectors = 4096, int discSectors = 600)
    {
        Disk = new MemoryDisk(diskSectors * 512L);
        Disc = new MemoryDisk(discSectors * 2048L);
        new Random(7).NextBytes(Disk.Bytes);
        new Random(8).NextBytes(Disc.Bytes);
        Controller = new Ahci(port => $"ide.{port}", firstPlace: 0);
        HardDisk = new AtaDrive("ide-hd", Backend(Disk), new AtaOptions("QM00001"));
        CdRom = new AtapiDrive("ide-cd", Backend(Disc), "QM00003");
        Controller.Channels[0].Attach(HardDisk);
        Controller.Channels[1].Attach(CdRom);
        Bench.Plug(Controller, 4);
        WriteConfig(0x20, 4, (uint)Pair);
        WriteConfig(0x24, 4, (uint)Registers);
        Host(GHC, IE);
    }

    public PciBench Bench { get; } = new();
    public MemoryDisk Disk { get; }
    public MemoryDisk Disc { get; }
    public Ahci Controller { get; }
    public AtaDrive HardDisk { get; }
    public AtapiDrive CdRom { get; }
    public AddressSpace Memory => Bench.Memory.Space;

    public void Dispose() => Bench.Dispose();

    public void WriteConfig(int offset, int size, uint value) =>
        Bench.Bus.WriteConfig(Controller.DevFn, offset, size, value);

    public uint ReadConfig(int offset, int size) => Bench.Bus.ReadConfig(Controller.DevFn, offset, size);

    public uint Host(int register) => (uint)Memory.Read(Registers + (ulong)register, 4);
    public void Host(int register, uint value) => Memory.Write(Registers + (ulong)register, 4, value);

    static ulong PortAt(int port, int register) => Registers + FirstPort + (ulong)(port * PortSize + register);
    public uint Port(int port, int register) => (uint)Memory.Read(PortAt(port, register), 4);
    public void Port(int port, int register, uint value) => Memory.Write(PortAt(port, register), 4, value);

    public byte Status(int port) => (byte)Port(port, PxTFD);
    public byte ErrorOf(int port) => (byte)(Port(port, PxTFD) >> 8);

    /// <summary>Gives a port its memory and starts it.</summary>
    public void Start(int port, uint enabled = uint.MaxValue)
    {
        Port(port, PxCLB, Lists + (uint)port * PerPort);
        Port(port, PxFB, Received + (uint)port * PerPort);
        Port(port, PxCMD, FRE);
        Port(port, PxIS, uint.MaxValue);
        Port(port, PxIE, enabled);
        Port(port, PxCMD, FRE | ST);
    }

    /// <summary>After an error, as section 6.2.2.1 has it.</summary>
    public void Restart(int port)
    {
        Port(port, PxCMD, FRE);
        Assert.Equal(0u, Port(port, PxCMD) & CR);
        Port(port, PxIS, uint.MaxValue);
        Port(port, PxCMD, FRE | ST);
    }

    public byte[] ReceivedAt(int port, int offset, int count) =>
        Bench.Memory.Bytes(Received + (ulong)(port * PerPort + offset), count);

    public uint Header(int port, int slot, int dword) =>
        (uint)Memory.Read(Lists + (ulong)(port * PerPort + slot * 32 + dword * 4), 4);

    static ulong TableOf(int port, int slot) => Tables + (ulong)(port * 0x1_0000 + slot * PerSlot);

    public static byte[] Fis(byte command, ulong lba = 0, int count = 0, int features = 0, byte device = 0x40) =>
    [
        0x27, 0x80, command, (byte)features, (byte)lba, (byte)(lba >> 8), (byte)(lba >> 16), device,
        (byte)(lba >> 24), (byte)(lba >> 32), (byte)(lba >> 40), (byte)(features >> 8), (byte)count, (byte)(count >> 8),
        0, 0,
    ];

    /// <summary>A queued command: the count stands in the features, the tag in the count.</summary>
    public static byte[] Queued(bool isWrite, int tag, ulong lba, int count) =>
        Fis(isWrite ? (byte)0x61 : (byte)0x60, lba, tag << 3, count);

    /// <summary>Writes a command into the list.</summary>
    public void Put(int port, int slot, ReadOnlySpan<byte> fis, ReadOnlySpan<byte> packet,
        params (ulong Address, int Length)[] regions)
    {
        ulong table = TableOf(port, slot);
        var data = new byte[0x80 + regions.Length * 16];
        fis.CopyTo(data);
        packet.CopyTo(data.AsSpan(0x40));
        for (int i = 0; i < regions.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(0x80 + i * 16), regions[i].Address);
            BinaryPrimitives.WriteInt32LittleEndian(data.AsSpan(0x80 + i * 16 + 12), regions[i].Length - 1);
        }
        Memory.Write(table, data);
        PutHeader(port, slot, (uint)(5 | (packet.Length > 0 ? 0x20 : 0) | regions.Length << 16), table);
    }

    public void PutHeader(int port, int slot, uint description, ulong table)
    {
        ulong at = Lists + (ulong)(port * PerPort + slot * 32);
        Memory.Write(at, 8, description);
        Memory.Write(at + 8, 8, table);
    }

    public void Issue(int port, int slot, ReadOnlySpan<byte> fis, params (ulong Address, int Length)[] regions)
    {
        Put(port, slot, fis, default, regions);
        Port(port, PxCI, 1u << slot);
    }

    /// <summary>Sends a command and waits until it has ended, well or not; the interrupts that it made.</summary>
    public uint Run(int port, ReadOnlySpan<byte> fis, params (ulong Address, int Length)[] regions) =>
        Run(port, fis, default, regions);

    public uint Run(int port, ReadOnlySpan<byte> fis, ReadOnlySpan<byte> packet,
        params (ulong Address, int Length)[] regions)
    {
        Port(port, PxIS, uint.MaxValue);
        Put(port, 0, fis, packet, regions);
        Port(port, PxCI, 1);
        Bench.Pump.Until(() => Port(port, PxCI) == 0 || (Port(port, PxIS) & (TFES | HBFS | IFS)) != 0);
        return Port(port, PxIS);
    }

    public byte[] Bytes(ulong address, int count) => Bench.Memory.Bytes(address, count);
    public byte[] Sectors(long lba, int count) => Disk.Bytes.AsSpan((int)lba * 512, count * 512).ToArray();

    BlockBackend Backend(MemoryDisk disk)
    {
        var backend = new BlockBackend("drive", Bench.Pump.Post);
        backend.Insert(disk);
        return backend;
    }
}
