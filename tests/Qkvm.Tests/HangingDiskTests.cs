using System.Net.Sockets;
using System.Text;
using Qkvm.Backends.Display;
using Qkvm.Control;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Machines;
using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>A machine whose disks never answer: all else stays alive, and what needs the disks waits for them
/// alone.</summary>
public sealed class HangingDiskTests : IDisposable
{
    const ulong Ports = 0xC000, QueueMemory = 0x10000, Request = 0x20000;

    static readonly TimeSpan Hang = TimeSpan.FromSeconds(60);

    readonly MachineEnvironment _environment = new();
    readonly BackendHost _host;
    readonly FakeAccelerator _accelerator = new();
    readonly MemoryDisk _virtio = new(1 << 20), _ide = new(1 << 20);
    readonly FakeChar _serial = new(), _monitor = new(), _second = new();
    readonly string _vnc = Path.Combine(Path.GetTempPath(), $"vnc-{Guid.NewGuid():N}");
    readonly VncServer _server;
    readonly Machine _machine;
    readonly Thread _main;

    public HangingDiskTests()
    {
        _host = new BackendHost(_environment, new Notices(TextWriter.Null), static () => { }, 1);
        AddDrive("v", _virtio);
        AddDrive("i", _ide);
        _host.Backends.Chardevs["s"] = _serial;
        var config = new MachineConfig
        {
            Memory = new MemoryConfig(16 << 20),
            Serials = ["s"],
            Devices =
            [
                new DeviceConfig("virtio-blk-pci", "disk", [new OptionPair("drive", "v"), new("addr", "4")],
                    "-device virtio-blk-pci"),
                new DeviceConfig("ide-cd", "cd", [new OptionPair("drive", "i"), new("bus", "ide.0"), new("unit", "0")],
                    "-device ide-cd"),
            ],
        };
        _machine = new Machine(_environment, config, _accelerator, Catalogue.Devices, _host.Backends, TextWriter.Null);
        using (_environment.Lock.Hold())
        {
            _server =
                VncServer.Create(new Properties(VncServer.Model,
                Options.Of("-vnc", new OptionPair("vnc", $"unix:{_vnc}"))),
                new DisplayParts(null, _machine.Board.Input, _environment.Loop, "", static _ => { }));
            foreach (FakeChar monitor in (FakeChar[])[_monitor, _second])
                _ = new HmpMonitor(monitor, new CommandContext(_machine, _host, CommandCatalogue.Standard), "1",
                    false);
        }
        _main = new Thread(() => _machine.Run());
        _main.Start();
        HangVirtio();
        HangIde();
    }

    public void Dispose()
    {
        OnMain(() => _machine.Quit());
        _main.Join();
        _virtio.Release();
        _ide.Release();
        foreach (BlockBackend drive in _host.Backends.Drives.Values) drive.Drain();
        _environment.DataThread.Dispose();
        using (_environment.Lock.Hold()) _server.Dispose();
        _machine.Dispose();
        _environment.Dispose();
        File.Delete(_vnc);
    }

    [Fact]
    public void Monitor_serial_port_and_display_answer()
    {
        Assert.Contains("VM status: running", Ask("info status"), StringComparison.Ordinal);
        _machine.Board.Ports.Write(0x3F8, 1, 'A');
        Assert.Equal("A", _serial.Text);
        using var viewer =
            new Socket(AddressFamily.Unix, SocketType.Stream,
            ProtocolType.Unspecified) { ReceiveTimeout = (int)Hang.TotalMilliseconds };
        viewer.Connect(new UnixDomainSocketEndPoint(_vnc));
        var greeting = new byte[12];
        Assert.Equal(12, viewer.Receive(greeting));
        Assert.Equal("RFB 003.008\n", Encoding.ASCII.GetString(greeting));
    }

    [Fact]
    public void The_machine_stops_and_goes_on()
    {
        Ask("stop");
        Assert.Contains("VM status: paused", Ask("info status"), StringComparison.Ordinal);
        Ask("cont");
        Assert.Contains("VM status: running", Ask("info status"), StringComparison.Ordinal);
    }

    [Fact]
    public void A_reset_of_the_machine_waits_for_the_disks_and_the_monitor_does_not()
    {
        int resets = _accelerator.Cpus[0].Resets;
        Ask("system_reset");
        Ask("system_reset");
        Assert.Contains("VM status: running", Ask("info status"), StringComparison.Ordinal);
        Assert.Equal(resets, _accelerator.Cpus[0].Resets);
        _virtio.Release();
        _ide.Release();
        Assert.True(SpinWait.SpinUntil(() => _accelerator.Cpus[0].Resets == resets + 1, Hang));
        Ask("info status");
        Assert.Equal(resets + 1, _accelerator.Cpus[0].Resets);
        PlaceBar();
        Assert.Equal(0, Common(0x14));                             // and the disk is as new
    }

    [Fact]
    public void A_modern_device_s_reset_is_seen_when_its_requests_have_ended()
    {
        Common(0x14, 0);
        Assert.NotEqual(0, Common(0x14));
        Assert.Contains("VM status: running", Ask("info status"), StringComparison.Ordinal);
        _virtio.Release();
        Assert.True(SpinWait.SpinUntil(() => Common(0x14) == 0, Hang));
    }

    [Fact]
    public void A_medium_leaves_when_its_requests_have_ended()
    {
        Type("eject -f i", _second);
        Assert.Contains("VM status: running", Ask("info status"), StringComparison.Ordinal);
        Assert.True(_host.Backends.Drives["i"].HasMedium);
        _ide.Release();
        Assert.True(SpinWait.SpinUntil(() => !_host.Backends.Drives["i"].HasMedium, Hang));
    }

    [Fact]
    public void The_machine_ends()
    {
        Type("quit");
        Assert.True(_main.Join(Hang));
        Assert.False(_host.Backends.Drives["v"].Drain(milliseconds: 10));
    }

    void AddDrive(string id, MemoryDisk disk)
    {
        disk.Hold();
        var backend = new BlockBackend(id, _environment.Loop.Post);
        backend.Insert(disk);
        _host.Backends.Drives[id] = backend;
    }

    /// <summary>A modern driver's request, by the registers of Virtio 1.2, section 4.1.4.</summary>
    void HangVirtio()
    {
        PlaceBar();
        Common(0x14, 3);
        Space.Write(Bar + 0x08, 4, 1);
        Space.Write(Bar + 0x0C, 4, 1);                             // VERSION_1
        Common(0x14, 11);
        var queue = new GuestQueue(Space, QueueMemory, 256);
        Space.Write(Bar + 0x20, 8, queue.Descriptors);
        Space.Write(Bar + 0x28, 8, queue.Available);
        Space.Write(Bar + 0x30, 8, queue.Used);
        Space.Write(Bar + 0x1C, 2, 1);
        Common(0x14, 15);
        queue.Add((Request, 16), (Request + 0x1000, -512), (Request + 0x100, -1));
        Space.Write(Bar + 0x3000, 2, 0);
        Assert.True(SpinWait.SpinUntil(() => _host.Backends.Drives["v"].InFlight == 1, Hang));
    }

    /// <summary>PACKET with READ(10): the drive is busy with it.</summary>
    void HangIde()
    {
        const ulong at = 0x1F0;
        _machine.Board.Ports.Write(at + 4, 1, 0);
        _machine.Board.Ports.Write(at + 5, 1, 8);                  // byte count limit
        for (int tries = 0; tries < 3; tries++)
        {
            // TEST UNIT READY takes the unit attention away; then READ(10) of one block.
            foreach (byte[] packet in (byte[][])[[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]])
            {
                _machine.Board.Ports.Write(at + 7, 1, 0xA0);
                for (int i = 0; i < 12; i += 2)
                    _machine.Board.Ports.Write(at, 2, (ulong)(packet[i] | packet[i + 1] << 8));
            }
            if (_host.Backends.Drives["i"].InFlight == 1) return;
        }
        Assert.Fail("the CD drive reads nothing");
    }

    const ulong Bar = 8UL << 32;

    Qkvm.Core.Memory.AddressSpace Space => _machine.Board.Memory;

    int Common(uint offset) => (int)Space.Read(Bar + offset, 1);
    void Common(uint offset, byte value) => Space.Write(Bar + offset, 1, value);

    void Configure(int slot, int register, int size, uint value)
    {
        _machine.Board.Ports.Write(0xCF8, 4, 0x8000_0000u | (uint)slot << 11 | (uint)(register & ~3));
        _machine.Board.Ports.Write(0xCFC, size, value);
    }

    /// <summary>BAR 4 at 32 GiB.</summary>
    void PlaceBar()
    {
        Configure(4, 0x24, 4, 8);
        Configure(4, 0x20, 4, 0);
        Configure(4, 0x04, 2, 7);
    }

    void OnMain(Action action)
    {
        if (!_main.IsAlive) return;
        using var done = new ManualResetEventSlim();
        _environment.Loop.Post(() => { action(); done.Set(); });
        done.Wait(Hang);
    }

    void Type(string line, FakeChar? monitor = null) => _environment.Loop.Post(() =>
    {
        ICharFrontend frontend = (monitor ?? _monitor).Frontend!;
        foreach (byte b in Encoding.ASCII.GetBytes(line + "\n"))
            if (frontend.Room > 0) frontend.Receive([b]);
    });

    /// <summary>What a command prints; fails where the monitor does not come back.</summary>
    string Ask(string line)
    {
        int before = 0;
        OnMain(() => before = _monitor.Output.Count);
        Type(line);
        string text = "";
        Assert.True(SpinWait.SpinUntil(() =>
        {
            OnMain(() => text = _monitor.Text[before..]);
            return text.TrimEnd().EndsWith("(qemu)", StringComparison.Ordinal) && text.Contains('\n');
        }, Hang), $"the monitor does not answer: {text}");
        return text;
    }
}
