using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Tests.Nvme;
using Qkvm.Hw.Tests.Virtio;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>A driver of an NVMe controller or a virtio SCSI host that fills queues, lists and commands with what looks
/// right and is not, while media change and units come and go. Nothing may throw or stall, and no register may be a
/// buffer; after a reset the disk is read as ever.</summary>
sealed class DiskFuzz : IDisposable
{
    const int Steps = 1000;

    static readonly uint[] s_registers = [0x0C, 0x10, 0x14, 0x14, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x1000, 0x1000, 0x1004,
        0x1008, 0x1008, 0x1008, 0x100C, 0x1010, 0x1014, 0x1018];
    static readonly byte[] s_codes = [0x00, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2A, 0x2B,
        0x2E, 0x2F, 0x35, 0x41, 0x42, 0x43, 0x46, 0x4A, 0x51, 0x55, 0x5A, 0x88, 0x8A, 0x8E, 0x8F, 0x91, 0x93, 0x9E,
        0xA0, 0xA8, 0xAA, 0xAD, 0xAF, 0xBB, 0xBD];
    static readonly byte[] s_modes = [0x00, 0x01, 0x04, 0x05, 0x08, 0x0E, 0x2A, 0x3F, 0x80, 0x83, 0xB0, 0xB1, 0xB2];

    readonly Random _random;
    readonly MemoryDisk _disk = new(1 << 20);
    readonly NvmeBench? _nvme;
    readonly PciBench? _pci;
    readonly VirtioScsi? _host;
    readonly VirtioGuest? _guest;
    readonly FakeBoard _board = new(new DeviceBench(new FakeClock()));
    readonly List<(DeviceSite Site, ScsiUnit Unit)> _plugged = [];

    DiskFuzz(int seed)
    {
        _random = new Random(seed);
        if (seed % 2 == 0)
        {
            _nvme = new NvmeBench(second: _disk);
            return;
        }
        _pci = new PciBench();
        _host = new VirtioScsi("scsi", new VirtioScsiOptions { Queues = 2, QueueSize = 32, SegMax = 30 }, _pci.Loop,
            _pci.Pump.Post);
        _guest = new VirtioGuest(_pci, _host, new VirtioPciOptions(0x010000, 5));
        Plug(0, _disk);
        Plug(1, new MemoryDisk(1 << 20));
    }

    /// <summary>Until the time is over; each batch has a device and a seed of its own.</summary>
    public static void Run(int seed, TimeSpan time, Action<string> print)
    {
        var clock = Stopwatch.StartNew();
        long steps = 0;
        for (; clock.Elapsed < time; seed++)
            try
            {
                using var fuzz = new DiskFuzz(seed);
                var batch = Stopwatch.StartNew();
                fuzz.RunBatch();
                steps += Steps;
                if (batch.Elapsed > TimeSpan.FromSeconds(20)) print($"seed {seed} took {batch.Elapsed}");
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}, {(seed % 2 == 0 ? "nvme" : "virtio-scsi")}: "
                    + e.Message, e);
            }
        print($"disks: {steps} steps, last seed {seed - 1}: nothing amiss");
    }

    public void Dispose()
    {
        _nvme?.Dispose();
        _pci?.Dispose();
    }

    PciBench Pci => _nvme?.Pci ?? _pci!;

    void RunBatch()
    {
        for (int i = 0; i < Steps; i++)
        {
            if (i % 100 == 0) Start();
            if (_nvme != null) StepNvme();
            else StepScsi();
            if (_random.Next(200) == 0) _disk.FailWith = _random.Next(3) == 0 ? 5 : 0;
            if (_random.Next(3) == 0) Pci.Pump.RunPosted();
        }
        _disk.FailWith = 0;
        Pci.Pump.RunPosted();
        Assert.Equal(0, Pci.Memory.Registers.Accesses);
        if (_nvme != null) CheckNvme();
        else CheckScsi();
    }

    void Start()
    {
        if (_guest != null)
        {
            Reset(() => _guest.Status == 0, () => _guest.Status = 0);
            _guest.Start();
            return;
        }
        Reset(() => (_nvme![NvmeBench.Csts] & 3) == 0, () => _nvme![NvmeBench.Cc] = 0);
        _nvme!.Start();
        _nvme.MakeQueue(1);
        _nvme.MakeQueue(2);
    }

    void Reset(Func<bool> isReset, Action reset)
    {
        reset();
        Pci.Pump.Until(isReset);
    }

    /// <summary>Of RAM, mostly.</summary>
    ulong Address() => _random.Next(12) switch
    {
        0 => (ulong)_random.NextInt64(),
        1 => TestMemory.IoAddress,
        2 => TestMemory.RomAddress,
        3 => TestMemory.RamSize - (ulong)_random.Next(8192),
        4 or 5 => (ulong)_random.Next(0x1000) * 0x1000 % TestMemory.RamSize + (ulong)_random.Next(4096),
        _ => (ulong)_random.Next(0x100) * 0x1000 + 0x20_0000,
    };

    uint Number() => _random.Next(4) switch
    {
        0 => (uint)_random.Next(8),
        1 => uint.MaxValue - (uint)_random.Next(4),
        2 => (uint)_random.Next(4096),
        _ => (uint)_random.NextInt64(),
    };

    void StepNvme()
    {
        NvmeBench nvme = _nvme!;
        switch (_random.Next(8))
        {
            case 0: nvme[s_registers[_random.Next(s_registers.Length)]] = Number(); break;
            case 1: Pci.Memory.Space.Write(0x20_0000 + (ulong)_random.Next(0x2_0000) * 8, 8, Address()); break;
            case 2: nvme.Look(_random.Next(3)); break;
            case 3: nvme.Backend.TellLength(); break;
            default:
                int queue = _random.Next(3);
                byte[] entry = NvmeBench.Command((byte)_random.Next(0x10), (ushort)Number(),
                    _random.Next(4) == 0 ? Number() : (uint)_random.Next(1, 3), Address(), Address(),
                    _random.Next(2) == 0 ? Number() : (uint)_random.Next(12), Number() & 0x3FF,
                    _random.Next(2) == 0 ? Number() : (uint)_random.Next(128));
                if (_random.Next(2) == 0) entry.AsSpan(44, 4).Clear();
                nvme.Submit(queue, entry, rings: _random.Next(4) != 0);
                break;
        }
    }

    void CheckNvme()
    {
        Start();
        _nvme!.Submit(1, NvmeBench.Command(2, 77, 1, NvmeBench.Data));
        Pci.Pump.Until(() => _nvme.Look(1) is { Id: 77, Status: 0 });
        Assert.Equal(_nvme.Disk.Bytes[..512], Pci.Memory.Bytes(NvmeBench.Data, 512));
        StateNode.Save(_nvme.Controller.Exchange).Load(_nvme.Controller.Exchange);
    }

    void Plug(int target, MemoryDisk disk)
    {
        var backend = new BlockBackend("drive", Pci.Pump.Post);
        bool isCd = target == 1;
        backend.IsReadOnly = isCd;
        backend.Insert(disk);
        ScsiUnit unit = isCd ? new ScsiCd(backend, new ScsiOptions { IsQueued = true, IsRemovable = true,
            BlockSize = 2048 }) : new ScsiDisk(backend, new ScsiOptions { IsQueued = true });
        DeviceSite site = _board.Site;
        ((IBusWires)_host!.Bus).Plug(new ScsiDevice("scsi", unit, isCd), FakeBoard.Defaults(ScsiModels.HardDisk,
            ("scsi-id", $"{target}"), ("lun", "0")), site);
        _plugged.Add((site, unit));
    }

    void StepScsi()
    {
        VirtioGuest guest = _guest!;
        switch (_random.Next(12))
        {
            case 0: guest.Common((uint)_random.Next(0x38), 1 << _random.Next(3), Number()); break;
            case 1: guest.Config((uint)_random.Next(9) * 4, 4, Number()); break;
            case 2: _plugged[_random.Next(2)].Unit.Backend.TellLength(); break;
            case 3: _plugged[1].Unit.MoveTray(_random.Next(2) == 0); break;
            case 4 when _plugged.Count > 2:
                _plugged[^1].Site.Dispose();
                _plugged.RemoveAt(_plugged.Count - 1);
                break;
            case 4: Plug(2, new MemoryDisk(1 << 16)); break;
            case 5: guest.Request(1, (Address(), -_random.Next(1, 32))); break;
            case 6: Manage(); break;
            default: Command(); break;
        }
    }

    void Command()
    {
        ulong at = 0x20_0000 + (ulong)_random.Next(16) * 0x100;
        byte[] header = new byte[51];
        _random.NextBytes(header);
        (header[0], header[1], header[2]) = (1, (byte)_random.Next(4), 0);
        header[3] = (byte)(_random.Next(5) == 0 ? 3 : 0);
        header[19] = s_codes[_random.Next(s_codes.Length)];
        if (_random.Next(2) == 0) header.AsSpan(20, 8).Clear();
        if (_random.Next(2) == 0) header[21] = s_modes[_random.Next(s_modes.Length)];
        if (_random.Next(3) == 0) header[20] = (byte)_random.Next(2);
        if (_random.Next(2) == 0) header.AsSpan(26, 3).Clear();
        Pci.Memory.Space.Write(at, header);
        int data = _random.Next(2) == 0 ? _random.Next(1, 512) : _random.Next(1, 0x1_0000);
        bool isIn = _random.Next(2) == 0;
        ulong buffer = _random.Next(20) == 0 ? Address() : 0x24_0000 + (ulong)_random.Next(0x1_0000);
        (ulong, int) response = (0x28_0000, -(_random.Next(30) == 0 ? _random.Next(1, 200) : 108));
        (ulong, int) request = (at, _random.Next(30) == 0 ? _random.Next(1, 60) : 51);
        int queue = _random.Next(2, 4);
        if (_random.Next(4) == 0) _guest!.Request(queue, request, response);
        else if (isIn) _guest!.Request(queue, request, response, (buffer, -data));
        else _guest!.Request(queue, request, (buffer, data), response);
    }

    void Manage()
    {
        byte[] request = new byte[24];
        _random.NextBytes(request);
        request.AsSpan(0, 8).Clear();
        (request[0], request[4]) = ((byte)_random.Next(3), (byte)_random.Next(9));
        (request[8], request[9], request[10], request[11]) = (1, (byte)_random.Next(3), 0, 0);
        Pci.Memory.Space.Write(0x29_0000, request);
        _guest!.Request(0, (0x29_0000, _random.Next(10) == 0 ? _random.Next(1, 24) : 24),
            (0x29_1000, -_random.Next(1, 8)));
    }

    void CheckScsi()
    {
        Start();
        byte[] header = new byte[51];
        (header[0], header[19], header[27]) = (1, 0x28, 1);
        Pci.Memory.Space.Write(0x20_0000, header);
        for (int i = 0; i < 2; i++)                                // the first hears of the reset
        {
            _guest!.Request(2, (0x20_0000, 51), (0x28_0000, -108), (0x24_0000, -512));
            Pci.Pump.Until(() => _guest.Queues[2].TakeUsed() != null);
        }
        Assert.Equal(_disk.Bytes[..512], Pci.Memory.Bytes(0x24_0000, 512));
        StateNode.Save(_guest!.Function.Exchange).Load(_guest.Function.Exchange);
    }
}
