using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Commands;

/// <param name="Cpu">Its index; null for the monitor's own.</param>
public sealed record RegistersArguments(bool All, ulong? Cpu);

public sealed record RegistersInfo(int Cpu, CpuRegisters Registers);

static class Registers
{
    public static readonly Command Command = new Command<RegistersArguments,
        IReadOnlyList<RegistersInfo>>(null, null, Read)
    {
        Human = new("info registers", "[-a|vcpu]", "show the cpu registers (-a: all CPUs; vcpu: one of them; " +
            "otherwise the current one)",
            words => words.Flag('a') ? new RegistersArguments(true, null)
                : new RegistersArguments(false, words.HasMore ? words.Number() : null),
            (monitor, cpus) =>
                { foreach (RegistersInfo cpu in cpus) monitor.Write($"\nCPU#{cpu.Cpu}\n" +
                $"{cpu.Registers.Dump().TrimEnd('\n')}\n"); }),
    };

    static IReadOnlyList<RegistersInfo> Read(CommandContext context, RegistersArguments arguments)
    {
        IReadOnlyList<IVCpu> cpus = context.Machine.Cpus;
        if (arguments.Cpu is { } index)
            cpus = index < (ulong)cpus.Count ? [cpus[(int)index]]
                : throw new MonitorException($"CPU#{index} not available");
        else if (!arguments.All) cpus = [context.Cpu];
        IReadOnlyList<RegistersInfo> read = [];
        context.Machine.WhileStill(() => read =
            [.. cpus.Select(cpu => new RegistersInfo(cpu.Index, cpu.ReadRegisters()))]);
        return read;
    }
}
