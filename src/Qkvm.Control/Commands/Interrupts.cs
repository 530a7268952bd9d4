using System.Text;
using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;
using Qkvm.Core.Irq;

namespace Qkvm.Control.Commands;

/// <summary>info pic, info irq and info lapic.</summary>
static class Interrupts
{
    public static readonly Command Controllers = new HumanCommand("info pic", "", "show PIC state",
        static (monitor, words) =>
        {
            words.End();
            foreach (IInterruptController chip in monitor.Context.Machine.Board.InterruptControllers)
                monitor.Write(chip.Describe());
        });

    public static readonly Command Counts = new HumanCommand("info irq", "",
        "show the interrupts statistics (if available)", static (monitor, words) =>
        {
            words.End();
            foreach (IInterruptController chip in monitor.Context.Machine.Board.InterruptControllers)
            {
                monitor.Write($"IRQ statistics for {chip.ChipName}:\n");
                for (int input = 0; input < chip.Counts.Count; input++)
                    if (chip.Counts[input] > 0) monitor.Write($"{input,2}: {chip.Counts[input]}\n");
            }
        });

    public static readonly Command Local = new HumanCommand("info lapic", "[apic-id]",
        "show local apic state (apic-id: local apic to read, default is which of current CPU)",
        static (monitor, words) =>
        {
            IVCpu? cpu = monitor.Context.Cpu;
            if (words.HasMore)
            {
                ulong id = words.Number();
                cpu = monitor.Context.Machine.Cpus.FirstOrDefault(c => c.Apic?.Peek(Id) == id);
            }
            words.End();
            if (cpu == null) throw new MonitorException("No CPU available");
            if (cpu.Apic is not { } apic) throw new MonitorException("The local APIC is the kernel's");
            monitor.Write(Describe(apic, cpu.Index));
        });

    // Registers by their numbers. Intel SDM vol. 3, table 11-1
    const int Id = 0x02, Tpr = 0x08, Apr = 0x09, Ppr = 0x0A, Ldr = 0x0D, Dfr = 0x0E, Svr = 0x0F, Isr = 0x10, Tmr = 0x18,
        Irr = 0x20, Esr = 0x28, IcrLow = 0x30, IcrHigh = 0x31, LvtTimer = 0x32, LvtThermal = 0x33,
        LvtPerformance = 0x34, LvtLint0 = 0x35, LvtLint1 = 0x36, LvtError = 0x37, InitialCount = 0x38,
        CurrentCount = 0x39, DivideConfiguration = 0x3E;

    static readonly string[] s_modes = ["Fixed", "LowestPriority", "SMI", "...", "NMI", "INIT", "SIPI", "ExtINT"];
    static readonly string[] s_shorthands = ["no-shorthand", "self", "all-self", "all"];
    static readonly string[] s_timers = ["one-shot", "periodic", "tsc-deadline", "..."];

    static string Describe(ILocalApic apic, int cpu)
    {
        var text = new StringBuilder($"dumping local APIC state for CPU {cpu} \n\n");
        foreach ((string name, int register) in (ReadOnlySpan<(string, int)>)[("LVT0", LvtLint0), ("LVT1", LvtLint1),
            ("LVTPC", LvtPerformance), ("LVTERR", LvtError), ("LVTTHMR", LvtThermal), ("LVTT", LvtTimer)])
            text.Append($"{name}\t {Lvt(apic.Peek(register), register == LvtTimer)}\n");

        uint divide = apic.Peek(DivideConfiguration), code = divide >> 1 & 4 | divide & 3;
        text.Append($"Timer\t DCR=0x{divide:x} (divide by {1 << (int)(code + 1 & 7)}) "
            + $"initial_count = {apic.Peek(InitialCount)} current_count = {apic.Peek(CurrentCount)}\n");
        uint spurious = apic.Peek(Svr);
        text.Append($"SPIV\t 0x{spurious:x8} APIC {((spurious & 0x100) != 0 ? "enabled" : "disabled")}, "
            + $"focus={((spurious & 0x200) != 0 ? "on" : "off")}, spurious vec {(byte)spurious}\n");
        Command(text, apic.Peek(IcrLow), apic.Peek(IcrHigh), apic.Peek(Dfr));
        text.Append($"ESR\t 0x{apic.Peek(Esr):x8}\n");
        text.Append($"ISR\t {Vectors(apic, Isr)}\nIRR\t {Vectors(apic, Irr)}\n");
        text.Append($"\nAPR 0x{(byte)apic.Peek(Apr):x2} TPR 0x{(byte)apic.Peek(Tpr):x2} "
            + $"DFR 0x{apic.Peek(Dfr) >> 28:x2} LDR 0x{apic.Peek(Ldr) >> 24:x2} PPR 0x{(byte)apic.Peek(Ppr):x2}\n");
        return text.ToString();
    }

    static string Lvt(uint entry, bool isTimer)
    {
        const uint Masked = 1 << 16, Level = 1 << 15, RemoteIrr = 1 << 14, ActiveLow = 1 << 13, Pending = 1 << 12;
        uint mode = entry >> 8 & 7;
        string vector = mode == 0 ? $" (vec {(byte)entry})" : "";
        return $"0x{entry:x8} {((entry & ActiveLow) != 0 ? "active-lo" : "active-hi")} "
            + $"{((entry & Level) != 0 ? "level" : "edge"),-5} {((entry & Masked) != 0 ? "masked" : ""),-6} "
            + $"{((entry & Pending) != 0 ? "pending" : ""),-7} "
            + (isTimer ? $"{s_timers[entry >> 17 & 3],-12} " : $"{((entry & RemoteIrr) != 0 ? "Remote IRR" : ""),-12} ")
            + $"{s_modes[mode],-6}{vector}";
    }

    static void Command(StringBuilder text, uint low, uint high, uint format)
    {
        const uint Logical = 1 << 11, Level = 1 << 15, Assert = 1 << 14;
        uint shorthand = low >> 18 & 3, mode = low >> 8 & 7;
        bool isLogical = (low & Logical) != 0;
        text.Append($"ICR\t 0x{low:x8} {(isLogical ? "logical" : "physical")} "
            + $"{((low & Level) != 0 ? "level" : "edge")} "
            + $"{((low & Assert) != 0 ? "assert" : "de-assert")} {s_shorthands[shorthand]}\nICR2\t 0x{high:x8}");
        uint target = high >> 24;
        if (shorthand == 0)
            text.Append(!isLogical ? target == 0xFF ? " all" : $" cpu {target} (APIC ID)"
                : format >> 28 == 0xF ? $" mask {Convert.ToString(target, 2).PadLeft(8, '0')} (APIC ID)"
                : $" cluster {target >> 4} mask {Convert.ToString(target & 15, 2).PadLeft(4, '0')} (APIC ID)");
        text.Append('\n');
    }

    static string Vectors(ILocalApic apic, int first)
    {
        var text = new StringBuilder();
        for (int vector = 0; vector < 256; vector++)
            if ((apic.Peek(first + vector / 32) >> vector % 32 & 1) != 0)
                text.Append($"{vector}{((apic.Peek(Tmr + vector / 32) >> vector % 32 & 1) != 0 ? "(level)" : "")} ");
        return text.Length == 0 ? "(none)" : text.ToString();
    }
}
