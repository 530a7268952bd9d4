using System.Runtime.Intrinsics.X86;

namespace Qkvm.Host;

// SAFETY: a page of its own, written with a fixed program before it is run, and unmapped after it.
/// <summary>What this processor can do beyond the first x86-64 (x86-64-v1: SSE2, CMOV, CMPXCHG8B, FXSAVE) and its
/// kernel lets programs use. Whoever writes or copies an instruction that v1 lacks asks here; nobody asks CPUID by
/// himself. Names are those of
/// -cpu. Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E; the levels: x86-64 psABI, section 3.1.1.</summary>
/// <remarks>For tests <see cref="Variable"/> takes features away, as if the host lacked them: items separated by
/// commas, a level (v1, v2, v3, v4) first if any, which leaves what it names, then -NAME, which takes away, and +NAME,
/// which gives back: "v2,+aes", "-avx,-xsave".</remarks>
public sealed class HostFeatures
{
    public const string Variable = "QKVM_HOST_FEATURES";

    /// <summary>Words of CPUID.</summary>
    enum Word { Leaf1Ecx, Leaf7Ebx, Leaf7Ecx, Leaf7Edx, Leaf71Eax, Leaf80000001Ecx, Count }

    /// <param name="Level">The psABI's level that has it first; 0: none.</param>
    /// <param name="Needs">Is nothing without that one.</param>
    readonly record struct Feature(string Name, Word Word, int Bit, int Level = 0, string? Needs = null);

    static readonly Feature[] s_all =
    [
        new("pni", Word.Leaf1Ecx, 0, 2), new("ssse3", Word.Leaf1Ecx, 9, 2, "pni"), new("cx16", Word.Leaf1Ecx, 13, 2),
            new("sse4.1", Word.Leaf1Ecx, 19, 2, "ssse3"),
        new("sse4.2", Word.Leaf1Ecx, 20, 2, "sse4.1"), new("popcnt", Word.Leaf1Ecx, 23, 2),
            new("lahf-lm", Word.Leaf80000001Ecx, 0, 2),
        new("movbe", Word.Leaf1Ecx, 22, 3), new("xsave", Word.Leaf1Ecx, 26, 3),
            new("avx", Word.Leaf1Ecx, 28, 3, "xsave"),
        new("fma", Word.Leaf1Ecx, 12, 3, "avx"), new("f16c", Word.Leaf1Ecx, 29, 3, "avx"),
            new("bmi1", Word.Leaf7Ebx, 3, 3), new("avx2", Word.Leaf7Ebx, 5, 3, "avx"),
        new("bmi2", Word.Leaf7Ebx, 8, 3), new("abm", Word.Leaf80000001Ecx, 5, 3),
        new("avx512f", Word.Leaf7Ebx, 16, 4, "avx2"), new("avx512dq", Word.Leaf7Ebx, 17, 4, "avx512f"),
            new("avx512cd", Word.Leaf7Ebx, 28, 4, "avx512f"),
        new("avx512bw", Word.Leaf7Ebx, 30, 4, "avx512f"), new("avx512vl", Word.Leaf7Ebx, 31, 4, "avx512f"),
        new("pclmulqdq", Word.Leaf1Ecx, 1), new("aes", Word.Leaf1Ecx, 25), new("adx", Word.Leaf7Ebx, 19),
            new("sha-ni", Word.Leaf7Ebx, 29), new("gfni", Word.Leaf7Ecx, 8),
        new("vaes", Word.Leaf7Ecx, 9, 0, "avx"), new("vpclmulqdq", Word.Leaf7Ecx, 10, 0, "avx"),
            new("avx-vnni", Word.Leaf71Eax, 4, 0, "avx"),
        new("avx512ifma", Word.Leaf7Ebx, 21, 0, "avx512f"), new("avx512vbmi", Word.Leaf7Ecx, 1, 0, "avx512bw"),
            new("avx512vbmi2", Word.Leaf7Ecx, 6, 0, "avx512bw"),
        new("avx512vnni", Word.Leaf7Ecx, 11, 0, "avx512f"), new("avx512bitalg", Word.Leaf7Ecx, 12, 0, "avx512bw"),
        new("avx512-vpopcntdq", Word.Leaf7Ecx, 14, 0, "avx512f"),
            new("avx512-vp2intersect", Word.Leaf7Edx, 8, 0, "avx512f"),
        new("avx512-fp16", Word.Leaf7Edx, 23, 0, "avx512bw"), new("avx512-bf16", Word.Leaf71Eax, 5, 0, "avx512f"),
    ];

    const int MostLevel = 4;

    readonly HashSet<string> _names;

    HostFeatures(HashSet<string> names) => _names = names;

    /// <summary>Of this process.</summary>
    public static HostFeatures Current { get; }

    /// <summary>What is wrong with <see cref="Variable"/>; null: nothing. Then <see cref="Current"/> is v1.</summary>
    public static string? Complaint { get; }

    /// <summary>Features are masked: what is emitted is held against them.</summary>
    public static bool IsMasked { get; }

    static HostFeatures()
    {
        string mask = Environment.GetEnvironmentVariable(Variable) ?? "";
        HashSet<string> present = Ask();
        IsMasked = mask.Length > 0;
        Complaint = TryMask(present, mask, out HostFeatures features) is { } why ? $"{Variable}={mask}: {why}" : null;
        Current = features;
    }

    /// <summary>Every name.</summary>
    public static IEnumerable<string> All => s_all.Select(feature => feature.Name);

    /// <exception cref="ArgumentException">There is no such name.</exception>
    public bool Has(string name) => _names.Contains(name)
        || (IsKnown(name) ? false : throw new ArgumentException($"no host feature '{name}'"));

    public static bool IsKnown(string name) => Array.Exists(s_all, feature => feature.Name == name);

    /// <summary>A virtual machine. No feature: it says how fast something is.</summary>
    public static bool IsVirtual => (X86Base.CpuId(1, 0).Ecx & 1 << 31) != 0;

    /// <summary>Bits of physical addresses; 36 where the processor does not say.</summary>
    public static int PhysicalBits
    {
        get
        {
            const uint addressSizes = 0x80000008, most = 0x80000000;
            return Leaf(most).Eax >= addressSizes ? (int)(Leaf(addressSizes).Eax & 0xFF) : 36;
        }
    }

    /// <summary>Applies a mask, as <see cref="Variable"/> holds it, to what a host has; null or what is wrong with
    /// it.</summary>
    public static string? TryMask(IReadOnlySet<string> present, string mask, out HostFeatures features)
    {
        HashSet<string> names = [.. present];
        features = new HostFeatures([]);
        string[] items = mask.Length == 0 ? [] : mask.Split(',');
        for (int i = 0; i < items.Length; i++)
        {
            string item = items[i], name = item.Length > 1 ? item[1..] : "";
            if (i == 0 && item.Length == 2 && item[0] == 'v' && item[1] is >= '1' and <= (char)('0' + MostLevel))
            {
                HashSet<string> level = OfLevel(item[1] - '0');
                string[] lacking = [.. level.Where(feature => !present.Contains(feature))];
                if (lacking.Length > 0) return $"this processor lacks {string.Join(", ", lacking)}";
                names = level;
            }
            else if (item.Length > 0 && item[0] is '-' or '+' && IsKnown(name))
            {
                if (item[0] == '-') names.Remove(name);
                else if (!present.Contains(name)) return $"this processor lacks {name}";
                else names.Add(name);
            }
            else return $"'{item}' is no level (v1 to v{MostLevel}, first only), nor - or + and one of " +
                $"{string.Join(' ', All)}";
        }
        DropDependent(names);
        features = new HostFeatures(names);
        return null;
    }

    static HashSet<string> OfLevel(int level) =>
        [.. s_all.Where(feature => feature.Level > 0 && feature.Level <= level).Select(feature => feature.Name)];

    /// <summary>Needed ones stand first in the table.</summary>
    static void DropDependent(HashSet<string> names)
    {
        foreach (Feature feature in s_all)
            if (feature.Needs != null && !names.Contains(feature.Needs)) names.Remove(feature.Name);
    }

    /// <summary>What processor and kernel have. Registers that the kernel does not save are as good as absent: Intel
    /// SDM vol. 1, section
    /// 13.3, and section 15.2 for AVX-512.</summary>
    public static HashSet<string> Ask()
    {
        const ulong avx = 6, avx512 = 0xE6;
        const uint osxsave = 1 << 27;
        var words = new uint[(int)Word.Count];
        words[(int)Word.Leaf1Ecx] = Leaf(1).Ecx;
        if (Leaf(0).Eax >= 7)
        {
            (uint subleaves, words[(int)Word.Leaf7Ebx], words[(int)Word.Leaf7Ecx], words[(int)Word.Leaf7Edx]) = Leaf(7);
            if (subleaves >= 1) words[(int)Word.Leaf71Eax] = Leaf(7, 1).Eax;
        }
        if (Leaf(0x80000000).Eax >= 0x80000001) words[(int)Word.Leaf80000001Ecx] = Leaf(0x80000001).Ecx;
        ulong enabled = (words[(int)Word.Leaf1Ecx] & osxsave) != 0 ? ExtendedControl.Read() : 0;
        var names = new HashSet<string>(s_all.Length);
        foreach (Feature feature in s_all)
            if ((words[(int)feature.Word] >> feature.Bit & 1) != 0) names.Add(feature.Name);
        if (enabled == 0) names.Remove("xsave");
        if ((enabled & avx) != avx) names.Remove("avx");
        if ((enabled & avx512) != avx512) names.Remove("avx512f");
        DropDependent(names);
        return names;
    }

    static (uint Eax, uint Ebx, uint Ecx, uint Edx) Leaf(uint leaf, int subleaf = 0)
    {
        (int eax, int ebx, int ecx, int edx) = X86Base.CpuId((int)leaf, subleaf);
        return ((uint)eax, (uint)ebx, (uint)ecx, (uint)edx);
    }
}

/// <summary>XGETBV, which C# has no name for.</summary>
static unsafe class ExtendedControl
{
    // xor ecx, ecx; xgetbv; shl rdx, 32; or rax, rdx; ret
    static ReadOnlySpan<byte> Code => [0x31, 0xC9, 0x0F, 0x01, 0xD0, 0x48, 0xC1, 0xE2, 0x20, 0x48, 0x09, 0xD0, 0xC3];

    /// <summary>XCR0. The host must have XSAVE enabled.</summary>
    public static ulong Read()
    {
        const int page = 4096;
        byte* at = (byte*)Libc.mmap(null, page, Libc.ProtRead | Libc.ProtWrite, Libc.MapPrivate | Libc.MapAnonymous,
            -1, 0);
        if (at == (byte*)-1) return 0;
        Code.CopyTo(new Span<byte>(at, page));
        ulong value = Libc.mprotect(at, page, Libc.ProtRead | Libc.ProtExec) < 0 ? 0
            : ((delegate* unmanaged<ulong>)at)();
        Libc.munmap(at, page);
        return value;
    }
}
