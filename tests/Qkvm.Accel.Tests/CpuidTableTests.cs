using System.Text;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Testing;

namespace Qkvm.Accel.Tests;

/// <summary>All that CPUID says, of every model on the software CPU over a host that has everything: nothing changes
/// without notice. Beside QEMU's: scripts/compare-cpuid.sh.</summary>
public sealed class CpuidTableTests
{
    static readonly CpuHost s_host = CpuHost.Software()
        with { Supported = CpuFeatures.Most().Supported, Maximum = CpuFeatures.Most().Maximum };

    /// <summary>Leaves with more than one subleaf, and how many are asked for.</summary>
    static int Subleaves(uint leaf) => leaf switch
    {
        4 or 0x1F or 0x8000001D => 5, 7 => 2, 0xB => 3, 0xD => 10, _ => 1,
    };

    static string Text(CpuidResult r) => $"{r.Eax:X8} {r.Ebx:X8} {r.Ecx:X8} {r.Edx:X8}";

    static IEnumerable<(uint Leaf, uint Subleaf, CpuidResult Result)> Leaves(Cpuid cpuid)
    {
        const ulong apicBase = 0xFEE00800;
        foreach (uint first in (uint[])[0, 0x40000000, 0x80000000])
        {
            uint last = first switch { 0 => cpuid.BasicLevel, 0x80000000 => cpuid.ExtendedLimit, _ => first + 1 };
            for (uint leaf = first; leaf <= last; leaf++)
                for (uint subleaf = 0; subleaf < Subleaves(leaf); subleaf++)
                    if (cpuid.Query(leaf, subleaf, 0, 1, apicBase) is var result && result != default)
                        yield return (leaf, subleaf, result);
        }
    }

    /// <summary>A line for each value of a leaf and the models that have it.</summary>
    static string Table(IEnumerable<(string Name, IEnumerable<(uint Leaf, uint Subleaf, CpuidResult Result)>)> all)
    {
        var table = new SortedDictionary<(uint, uint), SortedDictionary<string, List<string>>>();
        foreach ((string name, var leaves) in all)
            foreach ((uint leaf, uint subleaf, CpuidResult result) in leaves)
            {
                if (!table.TryGetValue((leaf, subleaf), out var values))
                    table[(leaf, subleaf)] = values = new(StringComparer.Ordinal);
                string text = Text(result);
                (values.TryGetValue(text, out List<string>? names) ? names : values[text] = []).Add(name);
            }
        var lines = new StringBuilder();
        foreach (((uint leaf, uint subleaf), var values) in table)
            foreach ((string text, List<string> names) in values)
                lines.Append($"{leaf:X}.{subleaf} {text}: {string.Join(' ', names)}\n");
        return lines.ToString();
    }

    static Cpuid Resolve(string model, int apicId = 0, int sockets = 1, int dies = 1, int cores = 1, int threads = 1) =>
        CpuModels.Resolve(new CpuSetup(model, [], apicId, sockets, cores, threads) { Dies = dies }, s_host);

    [Fact]
    public Task Every_model() => Verifier.Verify(Table(CpuModels.All.Select(model => model.Name)
        .Order(StringComparer.Ordinal).Select(name => (name, Leaves(Resolve(name))))));

    /// <summary>Sockets, dies, cores, threads, and the id of the last processor.</summary>
    static readonly (int Sockets, int Dies, int Cores, int Threads, int Last)[] s_places =
        [(2, 1, 2, 1, 3), (1, 2, 3, 1, 6), (1, 1, 3, 2, 5), (2, 2, 3, 2, 29), (1, 3, 5, 2, 41), (4, 1, 96, 2, 0x3BF)];

    [Fact]
    public Task Topologies()
    {
        uint[] leaves = [0, 1, 4, 0xB, 0x1F, 0x80000001, 0x80000008, 0x8000001D, 0x8000001E];
        var all = new List<(string, IEnumerable<(uint, uint, CpuidResult)>)>();
        foreach (string model in (string[])["Skylake-Client-v1", "EPYC-v3", "qemu64-v1", "pentium-v1"])
            foreach ((int sockets, int dies, int cores, int threads, int last) in s_places)
                all.Add(($"{model}:{sockets}.{dies}.{cores}.{threads}",
                    Leaves(Resolve(model, last, sockets, dies, cores, threads)).Where(x => leaves.Contains(x.Leaf))));
        return Verifier.Verify(Table(all));
    }
}
