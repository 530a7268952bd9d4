using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

static class Jit
{
    /// <summary>Which QEMU counts only where it was built to.</summary>
    public static readonly Command Operations = new HumanCommand("info opcount", "",
        "show dynamic compiler opcode counters", static (monitor, words) =>
        {
            words.End();
            monitor.Write(monitor.Context.Machine.Accelerator is ITranslating ? "[TCG profiler not compiled]\n"
                : throw new CommandException("Opcode count information is only available with accel=tcg"));
        });

    public static readonly Command Command = new Command<Nothing,
        IReadOnlyList<TranslatorStatistics>>(null, null, (context, _) =>
        context.Machine.Accelerator is ITranslating translator ? [.. translator.Statistics]
            : throw new CommandException("JIT information is only available with accel=tcg"))
    {
        Human = new("info jit", "", "show dynamic compiler info", null, (monitor, cpus) =>
        {
            int index = 0;
            foreach (TranslatorStatistics s in cpus)
            {
                monitor.Write($"CPU #{index++}: translation buffer state\n");
                monitor.Write($"gen code size       {s.CodeBytes}/{s.CodeLimit}\n");
                monitor.Write($"gen data size       {s.DataBytes}/{s.DataLimit}\n");
                monitor.Write($"TB count            {s.Blocks}\n");
                monitor.Write($"TB flush count      {s.Evictions}\n");
                monitor.Write($"direct jump count   {s.Links}\n");
                monitor.Write($"site misses         {s.FastMisses}\n");
                monitor.Write($"TLB misses          {s.Misses}\n");
            }
        }),
    };
}
