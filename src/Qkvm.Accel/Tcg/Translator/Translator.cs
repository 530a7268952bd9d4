using Iced.Intel;
using Qkvm.Accel.Tcg.Thunks;
using static Qkvm.Accel.Tcg.Translator.Emitter;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: what is emitted goes into room that was asked for (LargestBlock) and accesses the vCPU's own region, or RAM
// after a check.
/// <summary>Turns planned blocks into host code.</summary>
/// <remarks>Guest RAX to R8 and R12 to R15 live in the same host registers, guest RSP in R9; guest R9, R10 and R11 in
/// <see cref="CpuState"/>. R10 and R11 are scratch. Arithmetic flags are in EFLAGS or, after a check that had to save
/// them, in
/// <see cref="JitState.Flags"/>. Partial, by subject: memory, instructions, jumps, stubs.</remarks>
sealed unsafe partial class Translator : IDisposable
{
    const int GuestRsp = 4, HostRsp = R9, LargestBlock = 48 << 10;

    readonly Cpu _cpu;
    readonly CpuState* _state;
    readonly JitState* _jit;
    readonly CodeRegion _region;

    /// <summary>What runs each time, and the ways out, which would only thin it out; one of them is
    /// <see cref="_e"/>.</summary>
    readonly Emitter _hot = new(), _cold = new();

    /// <summary>For pieces that are written anew.</summary>
    readonly Emitter _arrival = new();
    Emitter _e;
    readonly Unit _unit;
    readonly byte* _page;
    readonly List<Stub> _stubs = [];
    Stubs _common;
    Mode _mode = null!;
    Translation* _block;

    /// <summary>Flags are in <see cref="JitState.Flags"/>.</summary>
    bool _flagsSaved;

    /// <summary>The slot whose addend R11 holds.</summary>
    Slot* _addend;

    /// <summary>The group whose check has just left its offset in the page in R10; -1: none.</summary>
    int _checked;

    /// <summary>What RSP has yet to be moved by: pushes and pops in a row move it once.</summary>
    int _stackMoves;
    bool _defersStack;

    /// <summary>A record of the block in work found no room: what is emitted must not run.</summary>
    bool _lacksRecords;

    /// <summary>Of a loop: where it goes back to, behind the checks of what stays.</summary>
    uint _loop;
    uint _start;

    /// <summary>Out-of-line code that a block still wants.</summary>
    struct Stub
    {
        public StubKind Kind;
        public uint Hole;
        public ExitRecord* Record;
        public int Group;
        public bool SaveFlags;
        public int Target;
    }

    enum StubKind : byte
    {
        Exit, Miss, Cross, MissCross, SecondPage, StringMiss, StringAgain, StringZero, StringBound, Return,
            MissCrossKeepingFlags,
    }

    public Translator(Cpu cpu, CodeRegion region, CpuState* state, JitState* jit)
    {
        (_cpu, _region) = (cpu, region);
        _state = state;
        _jit = jit;
        _page = (byte*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc(2 * Unit.PageSize, 64);
        _unit = new Unit(cpu, _page);
        _e = _hot;
        Restart();
        _common = EmitCommon();
        EmittedCode.Check(region.Executable, (long)((byte*)(nint)_e.Here - region.Executable));
        _kept = (int)(_e.Here - (uint)(nint)region.Executable);
    }

    readonly int _kept;

    /// <summary>The copy of the guest's page that blocks are made from, and of what follows it.</summary>
    public byte* Page => _page;
    public Unit Unit => _unit;
    public Stubs Common => _common;
    public int CodeUsed => (int)(_hot.Here + _cold.Here - 2 * (uint)(nint)_region.Executable) - ColdAt;
    int ColdAt => _region.CodeSize / 2;

    public void Dispose() => System.Runtime.InteropServices.NativeMemory.AlignedFree(_page);

    void Restart(int used = 0)
    {
        _hot.Start(_region.Writable + used, _region.Writable + ColdAt, _region.Executable + used);
        _cold.Start(_region.Writable + ColdAt, _region.Writable + _region.CodeSize, _region.Executable + ColdAt);
    }

    /// <summary>Makes a jump's displacement lead to an entry.</summary>
    public void Patch(uint hole, uint entry) => _e.Patch(hole, entry);

    /// <summary>Replaces a block's first bytes by a jump.</summary>
    public void Redirect(uint entry, uint to) => Redirect((byte*)(nint)entry, to);

    void Redirect(byte* at, uint to)
    {
        byte* writable = _region.Writable + (at - _region.Executable);
        *writable = 0xE9;
        *(int*)(writable + 1) = (int)(to - ((uint)(nint)at + 5));
    }

    /// <summary>Replaces a block's first bytes by its way out: mov r11d, record; jmp.</summary>
    public void Invalidate(Translation* block)
    {
        byte* at = (byte*)(nint)block->Entry, writable = _region.Writable + (at - _region.Executable);
        (writable[0], writable[1]) = (0x41, 0xBB);
        *(uint*)(writable + 2) = (uint)block;
        bool saved = (block->Key & Cpu.FlagsInMemory) != 0;
        Redirect(at + LengthOfMove, saved ? _common.ExitSaved : _common.Exit);
    }

    internal const int LengthOfMove = 6, LengthOfWayOut = LengthOfMove + 5;

    /// <summary>Forgets all code but the common stubs.</summary>
    public void Forget() => Restart(_kept);

    /// <summary>Bytes of the block emitted last, without what runs seldom.</summary>
    public int LengthOfLast { get; private set; }

    /// <summary>Translates; false: no room is left.</summary>
    public bool Emit(Translation* block, Mode mode, int offset, bool flagsSaved, bool careful)
    {
        if (_hot.Room < LargestBlock || _cold.Room < LargestBlock) return false;
        _e = _hot;
        (_mode, _flagsSaved) = (mode, flagsSaved);
        _block = block;
        _addend = null;
        (_stackMoves, _defersStack, _lacksRecords) = (0, false, false);
        _stubs.Clear();
        _start = _e.Here;
        block->Kind = ExitKind.Stale;
        block->Entry = _start;
        block->Offset = offset;
        block->LiveFlags = _unit.Count == 0 ? (byte)OpInfo.AllFlags : _unit.Steps[0].LiveBefore;
        block->LiveAfter = LiveAfterLast();
        if (_unit.Count == 1 && _unit.Steps[0].Next > PageSize && !EmitSecondPage(offset)) return false;
        int vectors = FirstOf(Treatment.Vector, Treatment.LoadControl),
            x87 = FirstOf(Treatment.X87, Treatment.LoadControl);
        if (_unit.IsLoop)
        {
            if (!EmitLoopStart(vectors >= 0, x87 >= 0)) return false;
            vectors = x87 = -1;
        }
        for (int i = 0; i < _unit.Count; i++)
        {
            _checked = -1;
            bool isStack = i != vectors && i != x87 && MovesStack(i);
            if (_stackMoves != 0 && !isStack && !IgnoresStack(i, vectors, x87)) FlushStack();
            _defersStack = isStack;
            for (int g = 0; g < _unit.GroupCount; g++)
                if (_unit.Groups[g].Position == i && !_unit.Groups[g].IsInvariant && !EmitCheck(g, i)) return false;
            if (i == vectors) EnsureVectors(i);
            if (i == x87 && !EnsureX87(i)) return false;
            if (!EmitStep(i)) return false;
        }
        _defersStack = false;
        FlushStack();
        if (_unit.Count == 0 || !Closes(_unit.Steps[_unit.Count - 1]))
        {
            int next = _unit.Count == 0 ? offset : _unit.Steps[_unit.Count - 1].Following;
            if (!EmitDirect(next, LiveAfterLast())) return false;
        }
        if (_lacksRecords) return false;
        while (_e.Here < _start + LengthOfWayOut) _e.Byte(0xCC);
        LengthOfLast = (int)(_e.Here - _start);
        _e = _cold;
        uint cold = _e.Here;
        for (int s = 0; s < _stubs.Count; s++) EmitStub(_stubs[s]);
        EmittedCode.Check((byte*)(nint)_start, LengthOfLast);
        EmittedCode.Check((byte*)(nint)cold, _e.Here - cold);
        return true;
    }

    /// <summary>What need not be done again each time round. No flags are alive there.</summary>
    bool EmitLoopStart(bool vectors, bool x87)
    {
        for (int g = 0; g < _unit.GroupCount; g++)
            if (_unit.Groups[g].IsInvariant && !EmitCheck(g, 0)) return false;
        if (vectors) EnsureVectors(0);
        if (x87 && !EnsureX87(0)) return false;
        _addend = null;
        (_flagsSaved, _loop) = (false, _e.Here);
        return true;
    }

    /// <summary>Pushes and pops of registers and numbers.</summary>
    bool MovesStack(int i)
    {
        ref Step step = ref _unit.Steps[i];
        return _mode.StackSize != 2 && step.Treatment is Treatment.Push or Treatment.Pop or Treatment.PushImmediate
            && (step.X.Op0Kind != OpKind.Register || Unit.GuestNumber(step.X.Op0Register) != GuestRsp)
            && !IsCheckedAt(i);
    }

    /// <summary>Neither uses RSP nor leaves the block.</summary>
    bool IgnoresStack(int i, int vectors, int x87)
    {
        ref Step step = ref _unit.Steps[i];
        if (i == vectors || i == x87 || IsCheckedAt(i)) return false;
        if (step.Treatment == Treatment.Return) return _mode.StackSize != 2 && !_mode.IsSegmented;
        return step.Treatment == Treatment.Nop || step.Treatment == Treatment.Native && step.Access < 0
            && !_unit.NamesStack(step);
    }

    bool IsCheckedAt(int i)
    {
        for (int g = 0; g < _unit.GroupCount; g++)
            if (_unit.Groups[g].Position == i && !_unit.Groups[g].IsInvariant) return true;
        return false;
    }

    void FlushStack()
    {
        if (_stackMoves != 0) _e.Op(_mode.StackSize == 8, Lea, HostRsp, HostRsp, None, 0, _stackMoves);
        _stackMoves = 0;
    }

    static bool Closes(in Step step) =>
        step.Treatment is Treatment.Interpret or Treatment.Jump or Treatment.JumpIndirect or Treatment.Call
        or Treatment.CallIndirect or Treatment.Return or Treatment.SystemCall or Treatment.SystemReturn;

    byte LiveAfterLast() => _unit.Count == 0 ? (byte)OpInfo.AllFlags : _unit.Steps[_unit.Count - 1].LiveAfter;

    int FirstOf(Treatment one, Treatment other)
    {
        for (int i = 0; i < _unit.Count; i++)
        {
            ref Step step = ref _unit.Steps[i];
            if (step.Treatment == one) return i;
            if (step.Treatment == other && (step.X.Code == Code.Fldcw_m2byte) == (one == Treatment.X87)) return i;
        }
        return -1;
    }

    /// <summary>Null: there is no room, and <see cref="Emit"/> will fail. Smaller ones may still find some.</summary>
    ExitRecord* NewRecord(ExitKind kind, int offset)
    {
        var record = (ExitRecord*)_region.Allocate(ExitRecord.SizeOf(kind), 8);
        _lacksRecords |= record == null;
        if (record == null) return null;
        (record->Kind, record->Offset) = (kind, offset);
        if (kind is ExitKind.Miss or ExitKind.CrossPage or ExitKind.SecondPage)
        {
            record->Slot = _region.AllocateSlot();
            _lacksRecords |= record->Slot == null;
            if (record->Slot == null) return null;
            record->Target = _common.ExitSaved;
            record->Owner = _block;
        }
        return record;
    }

    /// <summary>Host register of a guest's; -1: it is in memory.</summary>
    static int Host(int guest) => guest switch { GuestRsp => HostRsp, 9 or 10 or 11 => None, _ => guest };

    ulong* Home(int guest) => _state->Gpr + guest;

    /// <summary>Before code that changes EFLAGS: what is still wanted goes to memory.</summary>
    void FreeFlags(byte live)
    {
        if (live == 0 || _flagsSaved) return;
        _e.SaveFlags(&_jit->Flags);
        _flagsSaved = true;
    }

    /// <summary>Before an instruction that reads flags, or changes some and keeps others.</summary>
    void WantFlags(in Step step)
    {
        if (!_flagsSaved) return;
        OpInfo info = step.Info;
        bool keeps = info.Changes != 0 && (step.LiveAfter & ~info.KilledBy(step.X)) != 0;
        if (info.Reads != 0 || keeps)
        {
            _e.RestoreFlags(&_jit->Flags);
            _flagsSaved = false;
            _checked = -1;
        }
        else if (info.Changes != 0) _flagsSaved = false;
    }
}

/// <summary>Entry points that all blocks share; executable addresses.</summary>
struct Stubs
{
    /// <summary>From C#: void f(target).</summary>
    public uint Enter, EnterWithVectors;

    /// <summary>Leaves with the record in R11 and a value in R10; flags are in EFLAGS, or already saved.</summary>
    public uint Exit, ExitSaved;

    /// <summary>Called with a linear address in R10, a record in R11.</summary>
    public uint MissRead, MissWrite;

    /// <summary>Gone to with a linear page in R10, a record in R11, flags in memory.</summary>
    public uint MissCross, MissCrossKeepingFlags, MissCrossSegmented, MissSecondPage;

    /// <summary>Called: the registers that AVX knows, or ZMM and mask registers too.</summary>
    public uint LoadVectors, LoadAll;

    /// <summary>From C#: void f(): x87 registers from and to JitState.X87Area.</summary>
    public uint LoadX87, StoreX87;
}
