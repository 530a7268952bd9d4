using System.Text;
using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Commands;

/// <summary>info mem and info tlb: what the current vCPU's page tables map.</summary>
static class MemoryMappings
{
    const int MostLines = 1 << 16;

    public static readonly Command Ranges = new HumanCommand("info mem", "",
        "show the active virtual memory mappings", static (monitor, words) =>
        {
            words.End();
            Show(monitor, Merged);
        });

    public static readonly Command Pages = new HumanCommand("info tlb", "",
        "show virtual to physical memory mappings", static (monitor, words) =>
        {
            words.End();
            Show(monitor, static pages => pages.Select(Line));
        });

    static void Show(IMonitor monitor, Func<IEnumerable<MappedPage>, IEnumerable<string>> lines)
    {
        CommandContext context = monitor.Context;
        IVCpu cpu = context.Cpu;
        var text = new StringBuilder();
        int shown = 0;
        context.Machine.WhileStill(() =>
        {
            CpuRegisters registers = cpu.ReadRegisters();
            if (!PageTables.IsPaging(registers)) { text.Append("PG disabled\n"); return; }
            foreach (string line in lines(PageTables.Walk(context.Machine.Board.Memory, registers)))
            {
                if (shown++ == MostLines) { text.Append("…\n"); break; }
                text.Append(line);
            }
        });
        monitor.Write(text.ToString());
    }

    /// <summary>Neighbours with the same rights are one range.</summary>
    static IEnumerable<string> Merged(IEnumerable<MappedPage> pages)
    {
        ulong start = 0, end = 0, rights = 0;
        foreach (MappedPage page in pages)
        {
            if (rights != 0 && page.Rights == rights && page.Linear == end) { end += page.Size; continue; }
            if (rights != 0) yield return Range(start, end, rights);
            (start, end, rights) = (page.Linear, page.Linear + page.Size, page.Rights);
        }
        if (rights != 0) yield return Range(start, end, rights);
    }

    static string Range(ulong start, ulong end, ulong rights) => $"{start:x16}-{end:x16} {end - start:x16} "
        + $"{((rights & PageTables.User) != 0 ? 'u' : '-')}r{((rights & PageTables.Writable) != 0 ? 'w' : '-')}\n";

    static string Line(MappedPage page)
    {
        ulong physical = page.Entry & PageTables.AddressBits & ~(page.Size - 1);
        return $"{page.Linear:x16}: {physical:x16} {Bit(PageTables.NoExecute, 'X')}{Bit(PageTables.Global, 'G')}"
            + $"{(page.Size > 4096 ? 'P' : '-')}{Bit(PageTables.Dirty, 'D')}{Bit(PageTables.Accessed, 'A')}"
            + $"{Bit(PageTables.CacheDisable, 'C')}{Bit(PageTables.WriteThrough, 'T')}{Bit(PageTables.User, 'U')}"
            + $"{Bit(PageTables.Writable, 'W')}\n";

        char Bit(ulong bit, char letter) => (page.Entry & bit) != 0 ? letter : '-';
    }
}
