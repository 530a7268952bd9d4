using Qkvm.Control.Gdb;
using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

static class GdbServerCommand
{
    public static readonly Command Command = new HumanCommand("gdbserver", "[device]",
        "start gdbserver on given device (default 'tcp::1234'), stop with 'none'", Run);

    static void Run(IMonitor monitor, MonitorArguments words)
    {
        string device = words.Optional() ?? GdbServer.DefaultDevice;
        words.End();
        if (monitor.Context.Gdb is not { } server) throw new MonitorException("gdbserver: not on this machine");
        try { server.Open(device); }
        catch (ConfigurationException e)
        {
            throw new MonitorException($"{e.Message}\nCould not open gdbserver on device '{device}'");
        }
        monitor.Write(device == GdbServer.None ? "Disabled gdbserver\n"
            : $"Waiting for gdb connection on device '{device}'\n");
    }
}
