using System.Runtime.InteropServices;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>How a sequence ended: <see cref="SequenceArena.Done"/>, or with a fault's vector at this instruction.</summary>
/// <param name="Address">CR2 of a page fault.</param>
readonly record struct SequenceEnd(int Number, ulong Rip, uint ErrorCode = 0, ulong Address = 0)
{
    public override string ToString() => Number == SequenceArena.Done ? "done" : Number < 0 ? "no end"
        : $"fault {Number} at {Rip:x}" + (Number == Vector.PageFault ? $", error {ErrorCode:x}, CR2 {Address:x}" : "");
}

/// <summary>Addresses that host and guest share: code, scratch memory between guard pages, and where sequences end.</summary>
static class SequenceArena
{
    public const ulong Base = 0x10000000, Code = Base + 0x1000, Scratch = Base + 0x50000, Exit = Base + 0x60000;
    public const int Size = 0x200000, PageSize = 0x1000, CodeSize = 0x40000, ScratchSize = 0x8000;

    /// <summary>The vector of the guest's software interrupt at <see cref="Exit"/>.</summary>
    public const int Done = 0x80;
}

/// <summary>This very processor runs whole sequences. What they fault on comes back as a result.</summary>
/// <remarks>Belongs to the thread that made it, which gets an alternate signal stack. One at a time in a process.</remarks>
sealed unsafe partial class SequenceOracle : IDisposable
{
    const int MapFixedNoReplace = 0x100000, AltStackSize = 0x10000;
    const int Patience = 500, SigTrap = 5, SigSetMask = 2, SaSiginfo = 4, SaOnstack = 0x08000000, SaNodefer = 0x40000000;
    const int FaultRip = 0x800, FaultVector = 0x808, FaultError = 0x810, FaultAddress = 0x818, IsRunning = 0x820, HandlerAt = 0x100;

    // Of ucontext_t: gregs[] starts at 40. asm/sigcontext.h.
    const int ContextRip = 40 + 16 * 8, ContextError = 40 + 19 * 8, ContextTrap = 40 + 20 * 8, ContextCr2 = 40 + 22 * 8;
    static readonly int[] s_signals = [4, 5, 7, 8, 11];             // SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV

    readonly HostOracle _host;
    readonly byte* _alternate;
    readonly Timer _watchdog;
    SignalSet _held;
    readonly SignalAction[] _before = new SignalAction[s_signals.Length];

    public SequenceOracle(int bits)
    {
        _host = new HostOracle(bits, vectors: true);
        int thread = gettid();
        // An endless sequence ends as if it had trapped.
        _watchdog = new Timer(_ => tgkill(Environment.ProcessId, thread, SigTrap));
        Map(SequenceArena.Base, SequenceArena.Size, Libc.ProtNone, MapFixedNoReplace);
        Map(SequenceArena.Code, SequenceArena.CodeSize, Libc.ProtRead | Libc.ProtWrite | Libc.ProtExec, Libc.MapFixed);
        Map(SequenceArena.Scratch, SequenceArena.ScratchSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapFixed);
        Map(SequenceArena.Exit, SequenceArena.PageSize, Libc.ProtRead | Libc.ProtWrite | Libc.ProtExec, Libc.MapFixed);
        Jump(SequenceArena.Exit, _host.ExitAddress).CopyTo(new Span<byte>((byte*)SequenceArena.Exit, 5));
        _alternate = (byte*)NativeMemory.AlignedAlloc(AltStackSize, 64);
        var stack = new SignalStack { At = _alternate, Size = AltStackSize };
        if (sigaltstack(&stack, null) < 0) throw new HostException("no alternate signal stack", Libc.Errno);
        for (int i = 0; i < s_signals.Length; i++) Install(i);
        for (int i = 0; i < 16; i++) _held.Bits[i] = ulong.MaxValue;
        foreach (int signal in s_signals) _held.Bits[0] &= ~(1UL << signal - 1);
    }

    public HostOracle.Registers* State => _host.State;
    public void LoadVectors(byte* image) => _host.LoadVectors(image);
    public void UnloadVectors(byte* image) => _host.UnloadVectors(image);
    public static Span<byte> Scratch => new((byte*)SequenceArena.Scratch, SequenceArena.ScratchSize);
    public static Span<byte> Code => new((byte*)SequenceArena.Code, SequenceArena.CodeSize);

    /// <summary>Runs until a jump to <see cref="SequenceArena.Exit"/> or a fault; <see cref="State"/> is input and output.</summary>
    public SequenceEnd Run(ulong start)
    {
        ref long vector = ref *(long*)(SequenceArena.Exit + FaultVector);
        vector = -1;
        // The runtime's own signals have no alternate stack, and RSP may be anything.
        SignalSet before;
        fixed (SignalSet* held = &_held) sigprocmask(SigSetMask, held, &before);
        ref int isRunning = ref *(int*)(SequenceArena.Exit + IsRunning);
        isRunning = 1;
        _watchdog.Change(Patience, Timeout.Infinite);
        _host.Run(Jump(_host.InstructionAddress, start));
        isRunning = 0;
        _watchdog.Change(Timeout.Infinite, Timeout.Infinite);
        sigprocmask(SigSetMask, &before, null);
        if (vector < 0) return new SequenceEnd(SequenceArena.Done, SequenceArena.Exit);
        bool isPageFault = vector == Vector.PageFault;
        return new SequenceEnd((int)vector, *(ulong*)(SequenceArena.Exit + FaultRip), isPageFault ? *(uint*)(SequenceArena.Exit + FaultError) : 0,
            isPageFault ? *(ulong*)(SequenceArena.Exit + FaultAddress) : 0);
    }

    public void Dispose()
    {
        _watchdog.Dispose();
        for (int i = 0; i < s_signals.Length; i++)
            fixed (SignalAction* before = &_before[i]) sigaction(s_signals[i], before, null);
        var none = new SignalStack { Flags = 2 };                   // SS_DISABLE
        sigaltstack(&none, null);
        NativeMemory.AlignedFree(_alternate);
        Libc.munmap((void*)SequenceArena.Base, SequenceArena.Size);
        _host.Dispose();
    }

    static byte[] Jump(ulong from, ulong to)
    {
        var code = new byte[5];
        code[0] = 0xE9;
        BitConverter.TryWriteBytes(code.AsSpan(1), (int)((long)to - (long)from - 5));
        return code;
    }

    static void Map(ulong at, int size, int protection, int flags)
    {
        void* mapped = Libc.mmap((void*)at, (nuint)size, protection, Libc.MapPrivate | Libc.MapAnonymous | flags, -1, 0);
        if (mapped != (void*)at) throw new HostException($"cannot map {at:x}", Libc.Errno);
    }

    /// <summary>A handler that notes a fault of a sequence and resumes at the exit, all registers as they were. Other faults go to whom
    /// they went before; those of other threads are not on our stack.</summary>
    void Install(int index)
    {
        var assembler = new Assembler(64);
        Label other = assembler.CreateLabel();
        ulong at = SequenceArena.Exit + HandlerAt + (ulong)index * 0x100;
        SignalAction before;
        if (sigaction(s_signals[index], null, &before) < 0) throw new HostException("sigaction", Libc.Errno);
        _before[index] = before;
        assembler.mov(rcx, rsp);
        assembler.mov(rax, (ulong)_alternate);
        assembler.sub(rcx, rax);
        assembler.cmp(rcx, AltStackSize);
        assembler.jae(other);
        assembler.cmp(__dword_ptr[SequenceArena.Exit + IsRunning], 0);
        assembler.je(other);
        Copy(ContextRip, FaultRip);
        Copy(ContextTrap, FaultVector);
        Copy(ContextError, FaultError);
        Copy(ContextCr2, FaultAddress);
        assembler.mov(__qword_ptr[rdx + ContextRip], (int)SequenceArena.Exit);
        assembler.ret();
        assembler.Label(ref other);
        assembler.mov(rax, (ulong)before.Handler);
        assembler.jmp(rax);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), at);
        stream.ToArray().CopyTo(new Span<byte>((byte*)at, 0x100));
        var action = new SignalAction { Handler = (void*)at, Flags = SaSiginfo | SaOnstack | SaNodefer };
        if (sigaction(s_signals[index], &action, null) < 0) throw new HostException("sigaction", Libc.Errno);

        void Copy(int from, int to)
        {
            assembler.mov(rax, __[rdx + from]);
            assembler.mov(__qword_ptr[SequenceArena.Exit + (ulong)to], rax);
        }
    }

    /// <summary>struct sigaction of glibc.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 152)]
    struct SignalAction
    {
        [FieldOffset(0)] public void* Handler;
        [FieldOffset(136)] public int Flags;
    }

    /// <summary>sigset_t of glibc.</summary>
    struct SignalSet
    {
        public fixed ulong Bits[16];
    }

    [StructLayout(LayoutKind.Sequential)]
    struct SignalStack
    {
        public void* At;
        public int Flags;
        public nuint Size;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sigaction(int signal, SignalAction* action, SignalAction* before);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sigaltstack(SignalStack* stack, SignalStack* before);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sigprocmask(int how, SignalSet* set, SignalSet* before);

    [LibraryImport("libc")]
    private static partial int gettid();

    [LibraryImport("libc")]
    private static partial int tgkill(int process, int thread, int signal);
}
