using System.Runtime.CompilerServices;
using Qkvm.Control.Commands;
using Qkvm.Control.Dump;
using Qkvm.Control.Gdb;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>What a command works with; each monitor has its own.</summary>
public sealed class CommandContext(IMachine machine, IBackendHost host, CommandCatalogue catalogue)
{
    public IMachine Machine { get; } = machine;
    public IBackendHost Host { get; } = host;
    public MachineBackends Backends => Host.Backends;
    public CommandCatalogue Catalogue { get; } = catalogue;

    /// <summary>All that -machine can name. Made when somebody asks, as few clients do.</summary>
    public Lazy<IReadOnlyList<MachineInfo>> MachineTypes { get; init; } = new([]);

    /// <summary>Where debuggers come; null: nowhere.</summary>
    public GdbServer? Gdb { get; init; }

    /// <summary>What `log` and `trace-event` change; null: there is none.</summary>
    public MachineLog? Log { get; init; }

    /// <summary>The machine's dumps: all monitors have the same.</summary>
    public GuestDump Dump { get; init; } = new();

    /// <summary>What query-command-line-options tells.</summary>
    public Lazy<IReadOnlyList<CommandLineOptionInfo>> CommandLineOptions { get; init; } = new([]);

    /// <summary>The vCPU that `cpu N` chose; the first one in QMP.</summary>
    /// <exception cref="CommandException">-machine none has none.</exception>
    public IVCpu Cpu
    {
        get => _chosen ?? (Machine.Cpus.Count > 0 ? Machine.Cpus[0] : throw new CommandException("No CPU available"));
        set => _chosen = value;
    }

    IVCpu? _chosen;

    /// <summary>QMP's greeting is over.</summary>
    public bool IsNegotiated { get; set; }

    /// <summary>The client may send exec-oob.</summary>
    public bool AllowsOutOfBand { get; set; }

    /// <summary>The descriptor that the client passed with its command, which is the caller's from now on, or
    /// -1.</summary>
    public Func<int> TakeDescriptor { get; init; } = static () => -1;

    /// <summary>All devices, with the bus that each sits on; last those in slots.</summary>
    public IEnumerable<(QBus Bus, QDevice Device)> Devices =>
        Below(Machine.Tree).Concat(Machine.Slots is { } slots ? Below(slots) : []);

    /// <summary>The first device that is such a thing, or null.</summary>
    public T? Find<T>() where T : class =>
        Devices.Select(d => d.Device.Device?.Facet<T>()).FirstOrDefault(found => found != null);

    /// <summary>What awaits this goes on on the main loop, under the machine lock, wherever the work itself
    /// ended.</summary>
    public async ValueTask<T> BackOnLoop<T>(ValueTask<T> running)
    {
        if (running.IsCompleted) return running.GetAwaiter().GetResult();
        Task<T> task = running.AsTask();
        await ((Task)task).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await new LoopTurn(Machine.Board);
        return task.GetAwaiter().GetResult();
    }

    /// <summary>What awaits it goes on inside an action of the main loop. (A task that the loop ends would not do: one
    /// that has ended already goes on where it is awaited.)</summary>
    readonly struct LoopTurn(IBoard board) : INotifyCompletion
    {
        public LoopTurn GetAwaiter() => this;
        public bool IsCompleted => false;
        public void OnCompleted(Action continuation) => board.Post(continuation);
        public void GetResult() { }
    }

    static IEnumerable<(QBus, QDevice)> Below(QBus bus) =>
        bus.Devices.SelectMany(d => d.Buses.SelectMany(Below).Prepend((bus, d)));
}
