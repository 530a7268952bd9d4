using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

// A stand-in for processors of other makers: before each instruction of a sequence, whatever is undefined there gets a
// random value. If a judge finds no difference then, nothing of what a sequence leaves depends on what this processor
// makes of undefined results.
//
// How: the sequence runs step by step, by TF. It stays where it is and as it is, so that addresses, return addresses
// and code that changes itself are right. The handler of the trap finds in a table, by RIP, what is undefined before
// the instruction that comes next, and turns random bits of that in the interrupted context: arithmetic flags, and C0
// to C3 of the x87. What was undefined and has been defined meanwhile is not in the table any more; a register that
// would be undefined no sequence makes (SequenceFuzzer). REP stops after each element; flags that change between two of
// them the next overwrites. The sequence does not see the TF of stepping: the handler takes it out of what PUSHF has
// pushed, and sets it again after POPF. If POPF sets it, that trap is the sequence's own.
sealed unsafe partial class SequenceOracle
{
    /// <summary>Of an entry of the table: what undefined arithmetic flags and, above, C0 to C3 leave room
    /// for.</summary>
    const int PushesFlags = 0x8000, PopsFlags = 0x4000, FlagsMask = 0xFFF, X87Shift = 16;

    // Of ucontext_t, and of the XSAVE image that it points to.
    const int ContextVectors = 40 + 23 * 8, StatusWord = 2, PresentComponents = 512;

    uint* _steps;

    /// <summary>From now on <see cref="Run"/> makes what is undefined random.</summary>
    public bool Scrambles { get; set; }

    /// <summary>Traps of the last run, each with another instruction to come.</summary>
    public long Steps => Tells->Steps;

    /// <summary>What is undefined before each instruction of a sequence that lies at its place; or that nothing
    /// is.</summary>
    public void Describe(Sequence sequence, bool isUndefined)
    {
        foreach (SequenceItem item in sequence.Items)
        {
            uint entry = (uint)item.Undefined & FlagsMask | (uint)item.UndefinedX87 << X87Shift;
            if (item.Instruction.Mnemonic is Mnemonic.Pushf or Mnemonic.Pushfd or Mnemonic.Pushfq) entry |= PushesFlags;
            if (item.Instruction.Mnemonic is Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq) entry |= PopsFlags;
            _steps[item.Address - SequenceArena.Code] = isUndefined ? entry : 0;
        }
    }

    /// <summary>In the handler of SIGTRAP, outside the oracle's own code; goes to <paramref name="note"/> if a fault
    /// ends the sequence, to <paramref name="end"/> if it is done.</summary>
    void EmitStep(Assembler a, Label note, Label end)
    {
        const ulong factor = 6364136223846793005, increment = 1442695040888963407;      // Knuth's MMIX
        Label pops = a.CreateLabel(), pushes = a.CreateLabel(), elsewhere = a.CreateLabel(), done = a.CreateLabel(),
            last = a.CreateLabel();
        a.cmp(__dword_ptr[Address(&Tells->IsStepping)], 0);
        a.je(note);
        a.cmp(__dword_ptr[rdx + ContextTrap], Tcg.Vector.Debug);
        a.jne(note);
        a.cmp(__dword_ptr[Address(&Tells->OwnTrapFlag)], 0);
        a.jne(note);
        a.inc(__qword_ptr[Address(&Tells->Steps)]);
        a.mov(ecx, __[Address(&Tells->Entry)]);
        a.test(ecx, PopsFlags);
        a.je(pops);
        a.mov(eax, __[rdx + ContextFlags]);
        a.and(eax, (int)Rflags.Tf);
        a.mov(__dword_ptr[Address(&Tells->OwnTrapFlag)], eax);
        a.Label(ref pops);
        a.test(ecx, PushesFlags);
        a.je(pushes);
        a.mov(rax, __[rdx + ContextRsp]);
        a.and(__byte_ptr[rax + 1], ~(int)(Rflags.Tf >> 8));
        a.Label(ref pushes);
        a.xor(ecx, ecx);
        a.mov(rax, __[rdx + ContextRip]);
        a.cmp(rax, (int)SequenceArena.Exit);
        a.je(last);
        a.sub(rax, (int)SequenceArena.Code);
        a.cmp(rax, SequenceArena.CodeSize);
        a.jae(elsewhere);
        a.mov(r8, (ulong)_steps);
        a.mov(ecx, __[r8 + rax * 4]);
        a.Label(ref elsewhere);
        a.mov(__dword_ptr[Address(&Tells->Entry)], ecx);
        a.mov(rax, __[Address(&Tells->Random)]);
        a.mov(r8, factor);
        a.imul(rax, r8);
        a.mov(r8, increment);
        a.add(rax, r8);
        a.mov(__qword_ptr[Address(&Tells->Random)], rax);
        a.shr(rax, 32);
        a.mov(r8d, ecx);
        a.and(r8d, FlagsMask);
        a.and(r8d, eax);
        a.xor(__qword_ptr[rdx + ContextFlags], r8);
        a.shr(ecx, X87Shift);
        a.je(done);
        a.shr(eax, X87Shift);
        a.and(eax, ecx);
        a.mov(r8, __[rdx + ContextVectors]);
        a.xor(__word_ptr[r8 + StatusWord], ax);
        if (HostOracle.HasXsave) a.or(__qword_ptr[r8 + PresentComponents], 1);
        a.Label(ref done);
        a.or(__qword_ptr[rdx + ContextFlags], (int)Rflags.Tf);
        a.ret();
        a.Label(ref last);
        a.mov(__qword_ptr[Address(&Tells->Vector)], SequenceArena.Done);
        a.jmp(end);
    }

    static ulong Address(void* of) => (ulong)of;

    uint* MapSteps()
    {
        void* at = Libc.mmap(null, SequenceArena.CodeSize * sizeof(uint), Libc.ProtRead | Libc.ProtWrite,
            Libc.MapPrivate | Libc.MapAnonymous | Libc.MapNoReserve, -1, 0);
        return at != (void*)-1 ? (uint*)at : throw new HostException("no memory for the oracle", Libc.Errno);
    }

    void UnmapSteps() => Libc.munmap(_steps, SequenceArena.CodeSize * sizeof(uint));
}
