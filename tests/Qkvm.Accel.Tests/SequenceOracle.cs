using System.Runtime.InteropServices;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>How a sequence ended: <see cref="SequenceArena.Done"/>, or with a fault's vector at this
/// instruction.</summary>
/// <param name="Address">CR2 of a page fault.</param>
readonly record struct SequenceEnd(int Number, ulong Rip, uint ErrorCode = 0, ulong Address = 0)
{
    public override string ToString() => Number == SequenceArena.Done ? "done" : Number < 0 ? "no end"
        : $"fault {Number} at {Rip:x}" + (Number == Vector.PageFault ? $", error {ErrorCode:x}, CR2 {Address:x}" : "");
}

/// <summary>Addresses that host and guest share: code, scratch memory between guard pages, and where sequences
/// end.</summary>
static class SequenceArena
{
    public const ulong Base = 0x10000000, Code = Base + 0x1000, Scratch = Base + 0x50000, Exit = Base + 0x60000;
    public const int Size = 0x200000, PageSize = 0x1000, CodeSize = 0x40000, ScratchSize = 0x8000;

    /// <summary>The vector of the guest's software interrupt at <see cref="Exit"/>.</summary>
    public const int Done = 0x80;
}

/// <summary>This very processor runs whole sequences. What they fault on comes back as a result.</summary>
/// <remarks>Belongs to the thread that made it, which gets an alternate signal stack. One at a time in a process.
/// A sequence may leave any flags and any RSP. The handler saves them; it clears in the interrupted context the flags
/// that would trap again on the way out, which begins with an RSP of the oracle's: some hypervisors' hosts do not
/// return to one that is not canonical. A trap in the oracle's own code was not the sequence's: it goes on there.
/// SequenceOracle.Steps runs sequences step by step.</remarks>
sealed unsafe partial class SequenceOracle : IDisposable
{
    const int MapFixedNoReplace = 0x100000, AltStackSize = 0x10000, SigTrap = 5, HandlerRoom = 0x2A0;
    const int SaSiginfo = 4, SaOnstack = 0x08000000, SaRestart = 0x10000000, SaNodefer = 0x40000000;
    const ulong NoRsp = 0xDEAD_0000_0000_0001, CleanFlags = 2, Trapping = Rflags.Tf | Rflags.Ac | Rflags.Df | Rflags.Rf;

    // Of ucontext_t: gregs[] starts at 40. asm/sigcontext.h.
    const int ContextRsp = 40 + 15 * 8, ContextRip = 40 + 16 * 8, ContextFlags = 40 + 17 * 8,
        ContextError = 40 + 19 * 8, ContextTrap = 40 + 20 * 8, ContextCr2 = 40 + 22 * 8;
    static readonly int[] s_signals = [.. HostOracle.Faults, HostOracle.WatchdogSignal];

    readonly HostOracle _host;
    readonly byte* _alternate;
    readonly Timer _watchdog;
    readonly SignalAction[] _before = new SignalAction[s_signals.Length];
    readonly SignalStack _stackBefore;

    /// <summary>What handlers tell; in the oracle's shared memory.</summary>
    struct Told
    {
        public long Vector;
        public ulong Rip, Error, Address, Flags, Rsp;
        public int IsRunning;

        /// <summary>Of stepping: whether it does, whether the sequence has set TF itself, the entry of the instruction
        /// that runs, steps so far, the last random number.</summary>
        public int IsStepping, OwnTrapFlag;
        public uint Entry;
        public long Steps;
        public ulong Random;
    }

    public SequenceOracle(int bits)
    {
        _host = new HostOracle(bits, vectors: true);
        int thread = gettid();
        // Comes again until the sequence has ended: once may have been in the oracle's own code.
        _watchdog = new Timer(_ => tgkill(Environment.ProcessId, thread, HostOracle.WatchdogSignal));
        Map(SequenceArena.Base, SequenceArena.Size, Libc.ProtNone, MapFixedNoReplace);
        Map(SequenceArena.Code, SequenceArena.CodeSize, Libc.ProtRead | Libc.ProtWrite | Libc.ProtExec, Libc.MapFixed);
        Map(SequenceArena.Scratch, SequenceArena.ScratchSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapFixed);
        Map(SequenceArena.Exit, SequenceArena.PageSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapFixed);
        Jump(SequenceArena.Exit, _host.ExitAddress).CopyTo(new Span<byte>((byte*)SequenceArena.Exit, 5));
        Libc.mprotect((void*)SequenceArena.Exit, SequenceArena.PageSize, Libc.ProtRead | Libc.ProtExec);
        _alternate = (byte*)NativeMemory.AlignedAlloc(AltStackSize, 64);
        SignalStack stack = new() { At = _alternate, Size = AltStackSize }, before;
        if (sigaltstack(&stack, &before) < 0) throw new HostException("no alternate signal stack", Libc.Errno);
        _stackBefore = before;
        _steps = MapSteps();
        for (int i = 0; i < s_signals.Length; i++) Install(i);
    }

    /// <summary>How long a sequence may run on the host.</summary>
    public TimeSpan Patience { get; set; } = TimeSpan.FromSeconds(5);

    public HostOracle.Registers* State => _host.State;
    public void LoadVectors(byte* image) => _host.LoadVectors(image);
    public void UnloadVectors(byte* image) => _host.UnloadVectors(image);
    public static Span<byte> Scratch => new((byte*)SequenceArena.Scratch, SequenceArena.ScratchSize);
    public static Span<byte> Code => new((byte*)SequenceArena.Code, SequenceArena.CodeSize);

    Told* Tells => (Told*)_host.Shared;

    /// <summary>Runs until a jump to <see cref="SequenceArena.Exit"/> or a fault; <see cref="State"/> is input and
    /// output.</summary>
    public SequenceEnd Run(ulong start)
    {
        Told* told = Tells;
        *told = new Told
        {
            Vector = SequenceArena.Done, Rip = SequenceArena.Exit, IsRunning = 1, IsStepping = Scrambles ? 1
                : 0, Rsp = NoRsp, Random = told->Random + start,
        };
        if (Scrambles) State->Flags |= Rflags.Tf;
        _watchdog.Change(Patience, Patience);
        _host.Run(Jump(_host.InstructionAddress, start));
        told->IsRunning = 0;
        _watchdog.Change(Timeout.Infinite, Timeout.Infinite);
        if (told->Rsp != NoRsp) (State->Flags, State->Gpr[4]) = (told->Flags, told->Rsp);
        bool isPageFault = told->Vector == Vector.PageFault;
        return new SequenceEnd((int)told->Vector, told->Rip, isPageFault ? (uint)told->Error : 0, isPageFault
            ? told->Address : 0);
    }

    public void Dispose()
    {
        _watchdog.Dispose();
        for (int i = 0; i < s_signals.Length; i++)
            fixed (SignalAction* before = &_before[i]) sigaction(s_signals[i], before, null);
        SignalStack stack = _stackBefore;
        sigaltstack(&stack, null);
        NativeMemory.AlignedFree(_alternate);
        UnmapSteps();
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
        void* mapped = Libc.mmap((void*)at, (nuint)size, protection, Libc.MapPrivate | Libc.MapAnonymous | flags,
            -1, 0);
        if (mapped != (void*)at) throw new HostException($"cannot map {at:x}", Libc.Errno);
    }

    /// <summary>A handler that notes how a sequence ended and resumes at the exit, registers as they were. Faults of
    /// others go to whom they went before; those of other threads are not on our stack. rdi, rsi, rdx: signal,
    /// siginfo_t, ucontext_t.</summary>
    void Install(int index)
    {
        bool isWatchdog = s_signals[index] == HostOracle.WatchdogSignal;
        SignalAction before;
        if (sigaction(s_signals[index], null, &before) < 0) throw new HostException("sigaction", Libc.Errno);
        _before[index] = before;
        ulong otherHandler = (ulong)before.Handler;
        byte* at = _host.AddCode(index * HandlerRoom, HandlerRoom, a =>
        {
            Label own = a.CreateLabel(), note = a.CreateLabel(), end = a.CreateLabel(), resume = a.CreateLabel(),
                fault = a.CreateLabel(), other = a.CreateLabel();
            a.mov(rcx, rsp);
            a.mov(rax, (ulong)_alternate);
            a.sub(rcx, rax);
            a.cmp(rcx, AltStackSize);
            a.jae(other);
            a.cmp(__dword_ptr[Address(&Tells->IsRunning)], 0);
            a.je(other);
            a.mov(rcx, __qword_ptr[rdx + ContextRip]);
            a.sub(rcx, (int)_host.Executable);
            a.cmp(rcx, HostOracle.CodeSize);
            a.jb(own);
            if (s_signals[index] == SigTrap) EmitStep(a, note, end);
            a.Label(ref note);
            if (isWatchdog) a.mov(__qword_ptr[Address(&Tells->Vector)], -1);
            else Copy(ContextTrap, &Tells->Vector);
            a.Label(ref end);
            Copy(ContextRip, &Tells->Rip);
            Copy(ContextError, &Tells->Error);
            Copy(ContextCr2, &Tells->Address);
            Copy(ContextFlags, &Tells->Flags);
            Copy(ContextRsp, &Tells->Rsp);
            a.mov(__qword_ptr[rdx + ContextRip], (int)_host.ExitAddress);
            a.mov(__qword_ptr[rdx + ContextRsp], (int)_host.Scratch);
            a.Label(ref resume);
            a.and(__qword_ptr[rdx + ContextFlags], ~(int)Trapping);
            a.ret();
            a.Label(ref own);
            if (!isWatchdog)
            {
                a.cmp(__dword_ptr[rdx + ContextTrap], Vector.Debug);
                a.jne(fault);
                a.cmp(__dword_ptr[Address(&Tells->IsStepping)], 0);
                a.je(resume);
            }
            a.ret();
            a.Label(ref fault);
            a.add(rcx, (int)_host.Executable);
            a.cmp(rcx, (int)_host.ExitAddress);
            a.jb(note);                                             // still on the way in
            a.Label(ref other);
            if (isWatchdog) a.ret();
            a.push((int)CleanFlags);                                // the kernel leaves AC and NT
            a.popfq();
            a.mov(rax, otherHandler);
            a.jmp(rax);

            void Copy(int from, void* to)
            {
                a.mov(rax, __[rdx + from]);
                a.mov(__qword_ptr[Address(to)], rax);
            }
        });
        // The watchdog waits for a handler's end, so that it finds what was interrupted, not the handler. No other
        // signal does: the runtime's handlers do not come back.
        var action = new SignalAction
        {
            Handler = at, Flags = SaSiginfo | SaOnstack | SaNodefer | SaRestart,
                Held = 1UL << HostOracle.WatchdogSignal - 1,
        };
        if (sigaction(s_signals[index], &action, null) < 0) throw new HostException("sigaction", Libc.Errno);
    }

    /// <summary>struct sigaction of glibc.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 152)]
    struct SignalAction
    {
        [FieldOffset(0)] public void* Handler;
        [FieldOffset(8)] public ulong Held;
        [FieldOffset(136)] public int Flags;
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

    [LibraryImport("libc")]
    private static partial int gettid();

    [LibraryImport("libc")]
    private static partial int tgkill(int process, int thread, int signal);
}
