using Qkvm.Core.Block;

namespace Qkvm.Control.Hmp;

/// <summary>Commands that start, stop and end the machine.</summary>
static class RunCommands
{
    public static readonly MonitorCommand[] All =
    [
        new("stop|s", "", "stop emulation", (m, _) => m.Machine.Pause()),
        new("cont|c", "", "resume emulation", (m, _) => m.Machine.Resume()),
        new("system_reset", "", "reset the system", (m, _) => m.Machine.Reset()),
        new("system_powerdown", "", "send system power down event", (m, _) => m.Machine.PowerDown()),
        new("quit|q", "", "quit the emulator", (m, _) => m.Machine.Quit()),
        new("nmi", "", "inject an NMI", (m, _) => m.Machine.InjectNmi()),
        new("cpu", "index", "set the default CPU", (m, a) =>
        {
            ulong index = a.Number("index");
            m.Cpu = index < (ulong)m.Machine.Cpus.Count ? m.Machine.Cpus[(int)index] : throw new MonitorException("invalid CPU index");
        }),
        new("eject", "[-f] device", "eject a removable medium (use -f to force it)", (m, a) =>
        {
            a.Flag("-f");
            string id = a.Word("device");
            BlockBackend drive = m.Backends.Drives.TryGetValue(id, out BlockBackend? found) ? found : throw new MonitorException($"Device '{id}' not found");
            if (!drive.HasMedium) return;
            // When it is idle, and closed by a worker thread: a disk that does not answer holds up the command alone.
            drive.WhenIdle(() =>
            {
                if (drive.Root is not { } root) return;
                drive.Insert(null);
                Task.Run(async () => await root.DisposeAsync());
            });
        }),
    ];
}
