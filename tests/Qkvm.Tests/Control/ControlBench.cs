using System.Text;
using System.Text.Json;
using Qkvm.Control;
using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;
using Qkvm.Core.Block;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Machines;
using Qkvm.Testing;

namespace Qkvm.Tests.Control;

/// <summary>A PC whose vCPUs execute nothing, with a disk, a screen, a balloon and a main loop, and what controls
/// it.</summary>
sealed class ControlBench : IDisposable
{
    // no assertion: the end of a test that would never end
    static readonly TimeSpan Hang = TimeSpan.FromMinutes(2);

    readonly FakeAccelerator _accelerator = new();
    readonly Thread _loop;

    public ControlBench(Func<MachineConfig, MachineConfig>? configure = null, bool writeCache = true)
    {
        var disk = new BlockBackend("disk", Environment.Loop.Post)
        {
            Description = "disk.img",
            WriteCache = writeCache,
        };
        disk.Insert(new MemoryDisk(1 << 20));
        Host = new BackendHost(Environment, new Notices(TextWriter.Null), static () => { }, 1)
        {
            MonitorOpener = asked => OpenedMonitor.Open(Host!, asked,
                _ => new CommandContext(Machine!, Host!, CommandCatalogue.Standard)),
        };
        Backends.Drives["disk"] = disk;
        Backends.Chardevs["serial0"] = new FakeChar();
        var config = new MachineConfig
        {
            Name = "bench",
            MachineType = "pc-i440fx-7.2",
            Memory = new MemoryConfig(16 << 20),
            Topology = new CpuTopology(2, Cores: 2, MaxCpus: 2),
            StartPaused = true,
            Devices =
            [
                new DeviceConfig("VGA", null, [], "-vga"),
                new DeviceConfig("virtio-blk-pci", "disk0", [new("drive", "disk")], "-device virtio-blk-pci"),
                new DeviceConfig("virtio-balloon-pci", "balloon0", [], "-device virtio-balloon-pci"),
                new DeviceConfig("isa-serial", "port0", [new("chardev", "serial0")], "-device isa-serial"),
            ],
        };
        Environment.Log = new MachineLog(Logged);
        Machine = new Machine(Environment, configure?.Invoke(config)
            ?? config, _accelerator, Qkvm.Catalogue.Devices, Backends, TextWriter.Null);
        Host.BlockJobs.Jobs.Happened += Machine.Events.Raise;
        Context =
            new CommandContext(Machine, Host, CommandCatalogue.Standard)
            {
                TakeDescriptor = () => PassedDescriptor,
                Log = Environment.Log,
            };
        _loop = new Thread(() => Machine.Run());
        _loop.Start();
    }

    public MachineEnvironment Environment { get; } = new();
    public StringWriter Logged { get; } = new();
    public IBackendHost Host { get; }
    public MachineBackends Backends => Host.Backends;

    /// <summary>What comes with the next command, or -1.</summary>
    public int PassedDescriptor { get; set; } = -1;

    public Machine Machine { get; }
    public IReadOnlyList<FakeCpu> Cpus => _accelerator.Cpus;

    /// <summary>Where the vCPUs would stop.</summary>
    public IReadOnlyList<DebugPoint> Points => _accelerator.Points;
    public CommandContext Context { get; }

    /// <summary>Runs on the main loop and waits for it.</summary>
    public T OnLoop<T>(Func<T> action)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        Environment.Loop.Post(() =>
        {
            try { done.SetResult(action()); }
            catch (Exception e) { done.SetException(e); }
        });
        Assert.True(done.Task.Wait(Hang), "the main loop does not answer");
        return done.Task.GetAwaiter().GetResult();
    }

    /// <summary>As the guest does when it is asked: of all slots of the root bus that it is asked for.</summary>
    public void LetGo()
    {
        const ulong Down = 0xAE04, Eject = 0xAE08;
        OnLoop(() => Machine.Board.Ports.Write(Eject, 4, Machine.Board.Ports.Read(Down, 4)));
        OnLoop(() => { });                                         // it goes on the main loop, after that
    }

    public void OnLoop(Action action) => OnLoop(() => { action(); return true; });

    /// <summary>What the human monitor prints for a line.</summary>
    public string Human(string line)
    {
        var monitor = new PrintedMonitor(Context);
        Task done = OnLoop(() => CommandLine.ExecuteAsync(monitor, line).AsTask());
        Assert.True(done.Wait(Hang), $"'{line}' does not answer");
        return monitor.Text.ToString();
    }

    /// <summary>QMP's result of a command.</summary>
    public JsonElement Query(string name, string? arguments = null)
    {
        using var json = new MemoryStream();
        using var writer = new Utf8JsonWriter(json);
        JsonElement given = arguments == null ? default : JsonDocument.Parse(arguments).RootElement;
        Task done = OnLoop(() => CommandCatalogue.Standard.Find(name)!.RunAsync(Context, given, writer).AsTask());
        Assert.True(Task.WhenAny(done).Wait(Hang), $"{name} does not answer");
        done.GetAwaiter().GetResult();
        writer.Flush();
        return JsonDocument.Parse(Encoding.UTF8.GetString(json.ToArray())).RootElement;
    }

    public void Dispose()
    {
        Environment.Loop.Post(() => Machine.Quit());               // the test may have ended it already
        _loop.Join();
        Machine.Dispose();
        _accelerator.Dispose();
        Environment.Dispose();
    }

    sealed class PrintedMonitor(CommandContext context) : IMonitor
    {
        public StringBuilder Text { get; } = new();
        public CommandContext Context { get; } = context;
        public IReadOnlyList<string> History { get; } = ["stop"];
        public void Write(string text) => Text.Append(text);
    }
}
