using System.Text;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Machines;
using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>A whole machine on the software CPU with SeaBIOS, whose messages are kept, and empty disks.</summary>
sealed class SoftwareMachine : IDisposable
{
    // no assertion: the end of a test that would never end
    static readonly TimeSpan Hang = TimeSpan.FromMinutes(2);

    readonly MachineEnvironment _environment = new();
    readonly TcgAccelerator _accelerator = new();
    readonly FakeChar _console = new();
    readonly Thread _loop;

    public SoftwareMachine(int cpus = 1)
    {
        var disk = new BlockBackend("disk", _environment.Loop.Post);
        disk.Insert(new MemoryDisk(1 << 20));
        var backends = new MachineBackends { Drives = { ["disk"] = disk }, Chardevs = { ["console"] = _console } };
        var config = new MachineConfig
        {
            Memory = new MemoryConfig(32 << 20),
            Topology = new CpuTopology(cpus, Cores: cpus, MaxCpus: cpus),
            Rtc = new RtcConfig(RtcBase.Date, new DateTime(2024, 2, 29)),
            StartPaused = true,
            Devices =
            [
                new DeviceConfig("isa-debugcon", null, [new("chardev", "console"), new("iobase", "0x402")],
                    "-debugcon"),
                new DeviceConfig("VGA", null, [], "-vga"),
                new DeviceConfig("virtio-blk-pci", null, [new("drive", "disk")], "-drive"),
                new DeviceConfig("ide-cd", null, [], "-cdrom"),
            ],
        };
        Machine = new Machine(_environment, config, _accelerator, Catalogue.Devices, backends, TextWriter.Null);
        _loop = new Thread(() => Machine.Run());
        _loop.Start();
    }

    public Machine Machine { get; }

    public string Messages
    {
        get
        {
            string text = "";
            OnLoop(() => text = Encoding.ASCII.GetString([.. _console.Output]));
            return text;
        }
    }

    public void OnLoop(Action action)
    {
        Exception? failure = null;
        using var done = new ManualResetEventSlim();
        _environment.Loop.Post(() =>
        {
            try { action(); }
            catch (Exception e) { failure = e; }
            done.Set();
        });
        Assert.True(done.Wait(Hang), "the main loop does not answer");
        if (failure != null) throw new InvalidOperationException("on the main loop", failure);
    }

    /// <summary>Goes on until the firmware has said this.</summary>
    public void RunUntil(string message)
    {
        OnLoop(() => Machine.Resume());
        bool said =
            SpinWait.SpinUntil(() => { Thread.Sleep(5); return Messages.Contains(message, StringComparison.Ordinal); },
            Hang);
        OnLoop(() => Machine.Pause());
        Assert.True(said, $"the firmware never said '{message}', but:\n{Messages}");
    }

    public void Dispose()
    {
        OnLoop(() => Machine.Quit());
        _loop.Join();
        Machine.Dispose();
        _accelerator.Dispose();
        _environment.Dispose();
    }
}
