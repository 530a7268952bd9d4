using Qkvm.Control;
using Qkvm.Control.Commands;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qmp;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm;

/// <summary>A monitor on its chardev, until it is closed; then another may take that.</summary>
sealed class OpenedMonitor(ICharBackend backend, ICharFrontend monitor, Action release) : IDisposable
{
    /// <param name="makeContext">Of where the monitor's client passes descriptors.</param>
    public static OpenedMonitor Open(IBackendHost host, MonitorConfig config,
        Func<Func<int>, CommandContext> makeContext)
    {
        MachineBackends backends = host.Backends;
        ICharBackend backend = backends.TakeChardev(config.Chardev, config.Owner);
        Exposure.Warn(host, config.Chardev, config.Owner);
        CommandContext context = makeContext(backend.TakeDescriptor);
        ICharFrontend monitor = config.Control ? new QmpSession(backend, context, config.Pretty)
            : new HmpMonitor(backend, context, ProgramVersion.Text, backends.Muxes.ContainsKey(config.Chardev));
        return new OpenedMonitor(backend, monitor, () => backends.ReleaseChardev(config.Chardev));
    }

    public void Dispose()
    {
        (monitor as IDisposable)?.Dispose();
        backend.Connect(null);
        release();
    }
}
