using System.Runtime.Intrinsics.X86;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>The program under test and the guests that it boots.</summary>
static class Surroundings
{
    /// <summary>Guards against a hang; says nothing about speed.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    public static string Root { get; } = FindRoot();
    public static string Kernel { get; } = InCache("tiny/vmlinuz");
    public static string Initrd { get; } = InCache("tiny/initrd.cpio.gz");
    public static string CardsKernel { get; } = InCache("cards/vmlinuz");
    public static string CardsSmallInitrd { get; } = InCache("cards/initrd.cpio.gz");
    public static string CardsInitrd { get; } = InCache("cards/initrd");
    public static string BootSector { get; } = InCache("guests/bootsector.img");
    public static string MultibootElf { get; } = Guest("multiboot.elf");
    public static string MultibootFlat { get; } = Guest("multiboot.bin");

    /// <summary>One of the bare-metal guests, by its file's name.</summary>
    public static string Guest(string name) => InCache($"guests/{name}");

    /// <summary>$QKVM, or the newer of what `make` and `dotnet build` made.</summary>
    public static string Program { get; } = Environment.GetEnvironmentVariable("QKVM") is { Length: > 0 } named ? named
        : new[] { "out/qkvm", "artifacts/bin/Qkvm/release/qkvm",
        "artifacts/bin/Qkvm/debug/qkvm" }.Select(path => Path.Combine(Root, path))
            .Where(File.Exists).MaxBy(File.GetLastWriteTimeUtc) ?? Path.Combine(Root, "out/qkvm");

    public static string? WithoutProgram => File.Exists(Program) ? null : $"needs {Program}: make builds it";

    public static string? WithoutGuests => WithoutProgram
        ?? (File.Exists(BootSector) ? null : $"needs {BootSector}: tests/guests/build.sh .cache/guests makes it");

    /// <param name="gibibytes">Of memory that the host must have free for the guest.</param>
    public static string? WithoutTiny(int gibibytes = 0) => WithoutProgram
        ?? (File.Exists(Initrd) ? null : $"needs {Initrd}: images/tiny.sh .cache/tiny makes it")
        ?? (GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 30 >= gibibytes ? null
        : $"needs a host with {gibibytes} GiB of memory");

    /// <summary>Of the guest with all drivers, without the programs of networks.</summary>
    public static string? WithoutCards => WithoutProgram
        ?? (File.Exists(CardsSmallInitrd) ? null
        : $"needs {CardsSmallInitrd}: images/tiny.sh .cache/cards generic makes it");

    /// <summary>Whether networks of their own can be made, with the guest that has all drivers.</summary>
    public static string? WithoutNetworks => WithoutProgram
        ?? (File.Exists(CardsInitrd) ? null : $"needs {CardsInitrd}: scripts/test.sh makes it")
        ?? (Environment.IsPrivilegedProcess ? null : "needs root, to make a network namespace")
        ?? Without("ip", "iproute2") ?? Without("dnsmasq", "dnsmasq-base") ?? Without("iperf3", "iperf3");

    public const string Qemu = "/usr/bin/qemu-system-x86_64";

    public static string? WithoutTaps => WithoutNetworks
        ?? (File.Exists("/dev/net/tun") ? null : "needs /dev/net/tun");

    public static string? WithoutKvm
    {
        get
        {
            if (WithoutGuests is { } why) return why;
            try { File.Open("/dev/kvm", FileMode.Open, FileAccess.ReadWrite).Dispose(); }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return "needs /dev/kvm: " +
                $"{e.Message}"; }
            return null;
        }
    }

    /// <summary>Whether breakpoints stop a guest of KVM's. Of them QEMU 7.2's software CPU does not tell KVM, unless
    /// scripts/nested-qemu.sh made it: then it stands in $QEMU.</summary>
    public static string? WithoutKvmPoints => WithoutKvm ?? Virtualization.Missing
        ?? (IsSoftwareCpu && Environment.GetEnvironmentVariable("QEMU") == null
            ? "needs a processor that tells KVM of breakpoints (scripts/nested-qemu.sh)" : null);

    static bool IsSoftwareCpu
    {
        get
        {
            (_, int ebx, int ecx, int edx) = X86Base.CpuId(0x40000000, 0);
            const int tcgT = 0x54474354, cgtc = 0x43544743, gtcg = 0x47435447;   // TCGTCGTCGTCG
            return (ebx, ecx, edx) == (tcgT, cgtc, gtcg);
        }
    }

    /// <summary>Whether a program is installed; the reason to skip otherwise.</summary>
    public static string? Without(string program, string package) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin".Split(':')
            .Any(directory => File.Exists(Path.Combine(directory, program)))
            ? null : $"needs {program} (Debian: {package})";

    static string InCache(string path) => Path.Combine(Root, ".cache", path);

    static string FindRoot()
    {
        string? directory = AppContext.BaseDirectory;
        while (directory != null && !File.Exists(Path.Combine(directory, "Qemu.Net.sln")))
            directory = Path.GetDirectoryName(directory);
        return directory ?? throw new DirectoryNotFoundException($"no Qemu.Net.sln above {AppContext.BaseDirectory}");
    }
}

/// <summary>Needs the program.</summary>
sealed class ProgramFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutProgram);

sealed class ProgramTheoryAttribute() : ConditionalTheoryAttribute(Surroundings.WithoutProgram);

/// <summary>Needs the program, and qemu-img and qemu-io to make images and to hold them.</summary>
sealed class ImageFactAttribute()
    : ConditionalFactAttribute(Surroundings.WithoutProgram ?? Surroundings.Without("qemu-io", "qemu-utils"));

/// <summary>Needs the bare-metal guests.</summary>
sealed class GuestFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutGuests);

/// <summary>As <see cref="GuestFactAttribute"/>.</summary>
sealed class GuestTheoryAttribute() : ConditionalTheoryAttribute(Surroundings.WithoutGuests);

/// <summary>Needs QEMU beside us.</summary>
sealed class QemuTheoryAttribute()
    : ConditionalTheoryAttribute(Surroundings.Without("qemu-system-x86_64", "qemu-system-x86"));

/// <summary>Needs Python, as a client.</summary>
sealed class PythonFactAttribute()
    : ConditionalFactAttribute(Surroundings.WithoutProgram ?? Surroundings.Without("python3", "python3"));

/// <summary>Needs socat, as a client.</summary>
sealed class SocatFactAttribute()
    : ConditionalFactAttribute(Surroundings.WithoutProgram ?? Surroundings.Without("socat", "socat"));

/// <summary>Needs the tiny Linux guest.</summary>
sealed class TinyFactAttribute(int gibibytes = 0) : ConditionalFactAttribute(Surroundings.WithoutTiny(gibibytes));

/// <summary>As <see cref="TinyFactAttribute"/>.</summary>
sealed class TinyTheoryAttribute() : ConditionalTheoryAttribute(Surroundings.WithoutTiny());

/// <summary>Needs the tiny Linux guest with all drivers.</summary>
sealed class CardsTheoryAttribute() : ConditionalTheoryAttribute(Surroundings.WithoutCards);

/// <summary>Needs the same guest, and qemu-img to make images and to look into them.</summary>
sealed class CardsImageTheoryAttribute()
    : ConditionalTheoryAttribute(Surroundings.WithoutCards ?? Surroundings.Without("qemu-img", "qemu-utils"));

/// <summary>Needs a /dev/kvm that opens.</summary>
sealed class KvmFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutKvm);

/// <summary>Needs script, which gives a program a terminal.</summary>
sealed class TerminalFactAttribute()
    : ConditionalFactAttribute(Surroundings.WithoutGuests ?? Surroundings.Without("script", "bsdutils"));

/// <summary>Needs a network of its own, and the tiny Linux guest with all drivers.</summary>
sealed class NetworkFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutNetworks);

/// <summary>Needs /dev/net/tun too.</summary>
sealed class TapFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutTaps);

/// <summary>Needs a network of its own, and QEMU beside us.</summary>
sealed class QemuFactAttribute() : ConditionalFactAttribute(Surroundings.WithoutNetworks
    ?? (File.Exists(Surroundings.Qemu) ? null : $"needs {Surroundings.Qemu} (Debian: qemu-system-x86)"));
