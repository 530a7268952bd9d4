using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

static class SelectCpu
{
    public static readonly Command Command = new HumanCommand("cpu", "index", "set the default CPU", (monitor, words) =>
    {
        ulong index = words.Number();
        words.End();
        monitor.Context.Cpu = monitor.Context.Machine.Cpus.FirstOrDefault(cpu => (ulong)cpu.Index == index)
            ?? throw new MonitorException("invalid CPU index");
    });
}
