using Qkvm.Control.Commands;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Dump;

/// <summary>A piece of memory as a dump's program headers name it.</summary>
/// <param name="Offset">Of its first byte among the bytes of all blocks.</param>
readonly record struct DumpMapping(ulong Virtual, ulong Physical, ulong Length, ulong Offset);

static class DumpMappings
{
    // a guest's tables can map the same page again and again
    const int Most = 1 << 20;

    /// <summary>One for each block, by its physical address.</summary>
    public static List<DumpMapping> Plain(DumpSource source) => Cut(source,
        source.Blocks.Select(block => new DumpMapping(block.Start, block.Start, block.Length, 0)));

    /// <summary>What the page tables of all vCPUs map; as <see cref="Plain"/> where none has paging on.</summary>
    /// <exception cref="IOException">The tables map too much.</exception>
    public static List<DumpMapping> Paged(DumpSource source)
    {
        CpuRegisters[] paging = [.. source.Registers.Where(PageTables.IsPaging).DistinctBy(cpu => cpu.Cr3)];
        if (paging.Length == 0) return Plain(source);
        var found = new SortedSet<DumpMapping>(Comparer<DumpMapping>.Create(static (a, b) =>
            (a.Virtual, a.Physical, a.Length).CompareTo((b.Virtual, b.Physical, b.Length))));
        foreach (CpuRegisters cpu in paging)
            foreach (DumpMapping mapping in Cut(source, Merged(PageTables.Walk(source.Memory, cpu))))
                found.Add(mapping);
        return [.. found];
    }

    /// <summary>Neighbours on both sides are one.</summary>
    static IEnumerable<DumpMapping> Merged(IEnumerable<MappedPage> pages)
    {
        DumpMapping last = default;
        foreach (MappedPage page in pages)
        {
            ulong physical = page.Entry & PageTables.AddressBits & ~(page.Size - 1);
            if (last.Length > 0 && last.Virtual + last.Length == page.Linear
                && last.Physical + last.Length == physical)
            {
                last = last with { Length = last.Length + page.Size };
                continue;
            }
            if (last.Length > 0) yield return last;
            last = new DumpMapping(page.Linear, physical, page.Size, 0);
        }
        if (last.Length > 0) yield return last;
    }

    /// <summary>The parts of mappings that lie in blocks.</summary>
    static List<DumpMapping> Cut(DumpSource source, IEnumerable<DumpMapping> mappings)
    {
        var starts = new ulong[source.Blocks.Count];
        for (int i = 1; i < starts.Length; i++) starts[i] = starts[i - 1] + source.Blocks[i - 1].Length;
        var cut = new List<DumpMapping>();
        foreach (DumpMapping mapping in mappings)
            for (int i = 0; i < starts.Length; i++)
            {
                DumpBlock block = source.Blocks[i];
                ulong from = Math.Max(mapping.Physical, block.Start),
                    to = Math.Min(mapping.Physical + mapping.Length, block.End);
                if (from >= to) continue;
                if (cut.Count == Most) throw new IOException($"the guest's page tables map more than {Most} pieces of "
                    + "memory; leave paging out");
                cut.Add(new DumpMapping(mapping.Virtual + (from - mapping.Physical), from, to - from,
                    starts[i] + (from - block.Start)));
            }
        return cut;
    }
}
