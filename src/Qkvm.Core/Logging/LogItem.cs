using Qkvm.Core.Accel;

namespace Qkvm.Core.Logging;

/// <summary>What -d and the monitor's `log` name.</summary>
[Flags]
public enum LogItem
{
    None = 0, OutAsm = 1, InAsm = 2, Op = 4, Int = 8, Exec = 0x10, Cpu = 0x20, Fpu = 0x40, Mmu = 0x80, Pcall = 0x100,
    CpuReset = 0x200, Unimp = 0x400, GuestErrors = 0x800, Page = 0x1000, NoChain = 0x2000, Tid = 0x4000,
    Lockstep = 0x8000,

    /// <summary>Those that hear of translated code or of each instruction.</summary>
    Code = OutAsm | InAsm | Op | Exec | Cpu,

    /// <summary>Those that hear of what a software CPU meets.</summary>
    Events = Int | Mmu | Pcall,

    /// <summary>Those that only a software CPU can tell of.</summary>
    SoftwareCpu = Code | Events | Fpu | Lockstep,
}

/// <summary>The items by their names.</summary>
public static class LogItems
{
    const string Trace = "trace:";

    public static readonly (string Name, LogItem Item, string Description)[] All =
    [
        ("out_asm", LogItem.OutAsm, "show generated host assembly code for each translated block"),
        ("in_asm", LogItem.InAsm, "show guest assembly code for each block"),
        ("op", LogItem.Op, "show how each instruction of a translated block is treated"),
        ("int", LogItem.Int, "show interrupts/exceptions in short format"),
        ("exec", LogItem.Exec, "show the address of each instruction before it runs (slow: nothing is translated)"),
        ("cpu", LogItem.Cpu, "show CPU registers before each instruction (slow: nothing is translated)"),
        ("fpu", LogItem.Fpu, "include FPU registers in the 'cpu' logging"),
        ("mmu", LogItem.Mmu, "log changes of CR0, CR3 and the A20 gate"),
        ("pcall", LogItem.Pcall, "show protected mode far calls"),
        ("cpu_reset", LogItem.CpuReset, "show CPU state before CPU resets"),
        ("unimp", LogItem.Unimp, "log what guests ask for and devices do not have"),
        ("guest_errors", LogItem.GuestErrors,
            "log when the guest OS does something invalid (eg accessing a non-existent register)"),
        ("page", LogItem.Page, "taken, no effect: of user mode emulation"),
        ("nochain", LogItem.NoChain, "taken, no effect: 'exec' and 'cpu' show each instruction anyway"),
        ("tid", LogItem.Tid, "open a separate log file per thread; filename must contain '%d'"),
        ("lockstep", LogItem.Lockstep, "run each instruction on the translator and on the interpreter, show what " +
            "differs; the guest's time is 100 times slower; from the start on only"),
    ];

    /// <summary>QEMU's others, and why they are not here.</summary>
    public static readonly (string Name, string Reason)[] Missing =
    [
        ("op_opt", "there is no such stage of translation here; 'op' shows what there is"),
        ("op_ind", "there is no such stage of translation here; 'op' shows what there is"),
        ("plugin", "there are no plugins here"),
        ("strace", "it is of user mode emulation"),
    ];

    /// <summary>Reads "int,cpu_reset,trace:pci_*"; "all" is everything but what changes how the machine runs.</summary>
    /// <param name="traces">Gets the patterns of "trace:PATTERN".</param>
    /// <param name="wrong">The first one that is unknown, and why; null: none.</param>
    public static LogItem Parse(string text, ICollection<string> traces, out (string Item, string? Reason)? wrong)
    {
        LogItem items = LogItem.None;
        wrong = null;
        foreach (string word in text.Split(','))
        {
            if (word == "all") items |= (LogItem)((int)LogItem.NoChain - 1);
            else if (word.StartsWith(Trace, StringComparison.Ordinal)) traces.Add(word[Trace.Length..]);
            else if (Array.Find(All, known => known.Name == word) is { Name: not null } found) items |= found.Item;
            else wrong ??= (word, Array.Find(Missing, known => known.Name == word).Reason);
        }
        return items;
    }

    /// <summary>"-d int,cpu: …", where an accelerator tells nothing of some items that are asked for; null: it tells
    /// of all.</summary>
    /// <param name="owner">"-d" or "log".</param>
    public static string? Warning(string owner, LogItem asked, IAccelerator accelerator)
    {
        LogItem silent = asked & accelerator.SilentItems;
        if (silent == LogItem.None) return null;
        string names = string.Join(',', All.Where(known => (known.Item & silent) != 0).Select(known => known.Name));
        return $"{owner} {names}: no effect under {accelerator.Name}, where the processor tells nothing of it; "
            + "needs -accel tcg";
    }

    /// <summary>The list that -d help and `help log` print.</summary>
    /// <param name="command">"-d" or "log".</param>
    public static string Help(string command)
    {
        var text = new System.Text.StringBuilder("Log items (comma separated):\n");
        if (command != "-d") text.Append($"{"none",-15} remove all logs\n");
        foreach ((string name, _, string description) in All) text.Append($"{name,-15} {description}\n");
        text.Append($"{"trace:PATTERN",-15} enable trace events\n\n");
        return text.Append($"Use \"{command} trace:help\" to get a list of trace events.\n").ToString();
    }
}
