using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Commands;

static class SelectCpu
{
    public static readonly Command Command = new HumanCommand("cpu", "index", "set the default CPU", (monitor, words) =>
    {
        ulong index = words.Number();
        words.End();
        IReadOnlyList<IVCpu> cpus = monitor.Context.Machine.Cpus;
        monitor.Context.Cpu = index < (ulong)cpus.Count ? cpus[(int)index]
            : throw new MonitorException("invalid CPU index");
    });
}
