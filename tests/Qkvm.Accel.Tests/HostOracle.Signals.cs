using System.Runtime.InteropServices;

namespace Qkvm.Accel.Tests;

// While the stack pointer, the segments and all else are a test's, no handler of the runtime may run: it has no stack
// then.
sealed unsafe partial class HostOracle
{
    const int SetMask = 2;

    /// <summary>SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV: what an instruction may raise. They are not held back.</summary>
    public static ReadOnlySpan<int> Faults => [4, 5, 7, 8, 11];

    /// <summary>SIGURG is not held back either: nobody else uses it, and where nobody handles it, it does
    /// nothing.</summary>
    public const int WatchdogSignal = 23;

    static readonly SignalSet s_held = AllBut([.. Faults, WatchdogSignal]);

    /// <summary>Holds signals back from here to <see cref="EndOfHolding"/>, with what this returns.</summary>
    static SignalSet Hold()
    {
        SignalSet held = s_held, before;
        if (sigprocmask(SetMask, &held, &before) < 0)
            throw new Qkvm.Host.HostException("sigprocmask", Qkvm.Host.Libc.Errno);
        return before;
    }

    static void EndOfHolding(SignalSet before) => sigprocmask(SetMask, &before, null);

    static SignalSet AllBut(ReadOnlySpan<int> signals)
    {
        SignalSet set;
        for (int i = 0; i < 16; i++) set.Bits[i] = ulong.MaxValue;
        foreach (int signal in signals) set.Bits[0] &= ~(1UL << signal - 1);
        return set;
    }

    /// <summary>sigset_t of glibc.</summary>
    public struct SignalSet
    {
        public fixed ulong Bits[16];
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sigprocmask(int how, SignalSet* set, SignalSet* before);
}
