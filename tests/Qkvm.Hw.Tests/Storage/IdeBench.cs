using Qkvm.Core.Block;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Hw.Storage;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>A PIIX3 with a hard disk as primary master and a CD-ROM as secondary master, and a driver's way to
/// them.</summary>
sealed class IdeBench : IDisposable
{
    public const ulong Primary = 0x1F0, Secondary = 0x170, BusMaster = 0xC100, Table = 0x8000;
    public const byte Bsy = 0x80, Drdy = 0x40, Dsc = 0x10, Drq = 8, Err = 1;

    readonly bool[] _irq = new bool[2];

    public IdeBench(int diskSectors = 4096, int discSectors = 600)
    {
        Disk = new MemoryDisk(diskSectors * 512L);
        Disc = new MemoryDisk(discSectors * 2048L);
        new Random(7).NextBytes(Disk.Bytes);
        new Random(8).NextBytes(Disc.Bytes);
        Ide = Bench.Plug(new Piix3Ide(Bench.Memory.Ports,
            new IrqLine("irq14", l => { _irq[0] = l; if (l) PrimaryEdges++; }),
            new IrqLine("irq15", l => _irq[1] = l)), 1);
        DiskBackend = Backend(Disk);
        DiscBackend = Backend(Disc);
        HardDisk = new AtaDrive("ide-hd", DiskBackend, new AtaOptions("QM00001"));
        CdRom = new AtapiDrive("ide-cd", DiscBackend, "QM00003");
        Ide.Channels[0].Attach(HardDisk, 0);
        Ide.Channels[1].Attach(CdRom, 0);
        Bench.Bus.WriteConfig(Ide.DevFn, 0x20, 4, (uint)BusMaster);
    }

    public PciBench Bench { get; } = new();
    public MemoryDisk Disk { get; }
    public MemoryDisk Disc { get; }
    public Piix3Ide Ide { get; }
    public AtaDrive HardDisk { get; }
    public AtapiDrive CdRom { get; }
    public BlockBackend DiskBackend { get; }
    public BlockBackend DiscBackend { get; }

    public AddressSpace Ports => Bench.Memory.Ports;
    public AddressSpace Memory => Bench.Memory.Space;

    /// <summary>How often IRQ 14 has risen.</summary>
    public int PrimaryEdges { get; private set; }

    public bool Irq(ulong channel) => _irq[channel == Primary ? 0 : 1];

    public void Dispose() => Bench.Dispose();

    public byte In(ulong port) => (byte)Ports.Read(port, 1);
    public void Out(ulong port, byte value) => Ports.Write(port, 1, value);

    /// <summary>Alternate status: does not acknowledge.</summary>
    public byte Peek(ulong channel) => In(channel + 0x206);

    /// <summary>Runs the main loop until the drive is not busy.</summary>
    public byte Wait(ulong channel)
    {
        Bench.Pump.Until(() => (Peek(channel) & Bsy) == 0);
        return Peek(channel);
    }

    public byte WaitIrq(ulong channel)
    {
        Bench.Pump.Until(() => Irq(channel));
        return In(channel + 7);
    }

    public void Lba28(ulong channel, byte command, uint lba, byte count)
    {
        Out(channel + 6, (byte)(0xE0 | lba >> 24));
        Out(channel + 2, count);
        Out(channel + 3, (byte)lba);
        Out(channel + 4, (byte)(lba >> 8));
        Out(channel + 5, (byte)(lba >> 16));
        Out(channel + 7, command);
    }

    public void Lba48(ulong channel, byte command, ulong lba, ushort count)
    {
        Out(channel + 6, 0xE0);
        Out(channel + 2, (byte)(count >> 8));
        for (int i = 0; i < 3; i++) Out(channel + 3 + (ulong)i, (byte)(lba >> (24 + 8 * i)));
        Out(channel + 2, (byte)count);
        for (int i = 0; i < 3; i++) Out(channel + 3 + (ulong)i, (byte)(lba >> (8 * i)));
        Out(channel + 7, command);
    }

    public byte[] ReadData(ulong channel, int count, int width = 2)
    {
        var data = new byte[count];
        for (int i = 0; i < count; i += width)
        {
            ulong value = Ports.Read(channel, width);
            for (int j = 0; j < width && i + j < count; j++) data[i + j] = (byte)(value >> (8 * j));
        }
        return data;
    }

    public void WriteData(ulong channel, ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i += 2) Ports.Write(channel, 2, (ulong)(data[i] | data[i + 1] << 8));
    }

    /// <summary>Fills the descriptor table; the last entry ends it unless told otherwise.</summary>
    public void Regions(params (uint Address, int Length)[] regions) => Regions(true, regions);

    public void Regions(bool ends, (uint Address, int Length)[] regions)
    {
        for (int i = 0; i < regions.Length; i++)
        {
            Memory.Write(Table + 8 * (ulong)i, 4, regions[i].Address);
            uint last = ends && i == regions.Length - 1 ? 0x80000000u : 0;
            Memory.Write(Table + 8 * (ulong)i + 4, 4, (uint)(regions[i].Length & 0xFFFF) | last);
        }
    }

    public ulong Master(ulong channel) => channel == Primary ? BusMaster : BusMaster + 8;

    public void StartDma(ulong channel, bool toMemory)
    {
        Ports.Write(Master(channel) + 4, 4, Table);
        Out(Master(channel) + 2, 6);
        Out(Master(channel), (byte)(toMemory ? 9 : 1));
    }

    public byte MasterStatus(ulong channel) => In(Master(channel) + 2);

    /// <summary>Sends a packet; returns the status when the drive has answered.</summary>
    public byte Packet(bool dma, int limit, params byte[] packet)
    {
        Array.Resize(ref packet, 12);
        Out(Secondary + 6, 0xA0);
        Out(Secondary + 1, dma ? (byte)1 : (byte)0);
        Out(Secondary + 4, (byte)limit);
        Out(Secondary + 5, (byte)(limit >> 8));
        Out(Secondary + 7, 0xA0);
        Assert.Equal(Drq, Peek(Secondary) & (Drq | Bsy));
        WriteData(Secondary, packet);
        return dma ? Peek(Secondary) : Wait(Secondary);
    }

    /// <summary>Reads all data blocks of a reply, as their lengths in LBA mid and high say.</summary>
    public byte[] Reply()
    {
        var data = new List<byte>();
        while ((Wait(Secondary) & Drq) != 0)
        {
            Assert.Equal(2, In(Secondary + 2));
            int length = In(Secondary + 4) | In(Secondary + 5) << 8;
            data.AddRange(ReadData(Secondary, length));
        }
        return [.. data];
    }

    BlockBackend Backend(MemoryDisk disk)
    {
        var backend = new BlockBackend("drive", Bench.Pump.Post);
        backend.Insert(disk);
        return backend;
    }
}
