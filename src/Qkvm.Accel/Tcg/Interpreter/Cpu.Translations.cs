using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Qkvm.Accel.Tcg.Translator;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Interpreter;
using Engine = Qkvm.Accel.Tcg.Translator.Translator;

/// <summary>The blocks translated for this vCPU. Keyed by the host address of their first byte and by mode; when memory for them
/// is used up, all are forgotten.</summary>
public sealed unsafe partial class Cpu
{
    const int TranslationBucketBits = 18, TranslationBuckets = 1 << TranslationBucketBits;

    /// <summary>Of the code cache, this part is data: what is known of blocks and of their ways out.</summary>
    const int DataEighths = 3;

    /// <summary>Bytes for translations and what belongs to them, unless told otherwise.</summary>
    public const int DefaultCodeCache = 96 << 20;

    // Low bits of Translation.Key; the mode's number follows.
    internal const uint FlagsInMemory = 1, Careful = 2;
    const int ModeShift = 2;

    readonly Dictionary<(ulong Bits, uint Base, uint Limit), Mode> _modes = [];
    readonly Dictionary<nuint, nint> _translatedPages = [];

    /// <summary>Blocks of one instruction, by the page that it goes on in.</summary>
    readonly Dictionary<nuint, List<nint>> _crossings = [];
    const int RecentModes = 16;
    readonly Mode?[] _recentModes = new Mode?[RecentModes];
    Translation** _translations;
    int _forgets;

    /// <summary>Statistics of the translator.</summary>
    public long Translations { get; private set; }
    public long Links { get; private set; }
    public long TlbMisses { get; private set; }
    public int Evictions => _forgets;
    public TranslatorStatistics Statistics => new(Translations, _engine?.CodeUsed ?? 0, _region.CodeSize, _region.DataUsed, _region.DataSize, Evictions, Links,
        (long)_jit->FastMisses, TlbMisses);

    /// <summary>Where code for this RIP is, entered with flags in memory; 0: it must be interpreted. May fault.</summary>
    uint FindCode(ulong rip)
    {
        Mode mode = CurrentMode();
        ulong linear = LinearOf(rip);
        JumpEntry* jump = mode.Jumps + JumpEntry.IndexOf(linear, mode.JumpCount);
        if (jump->Target == linear) return (uint)jump->Code;
        Translation* found = FindTranslation(rip, flagsInMemory: true, careful: false);
        if (found == null) return 0;
        jump = CurrentMode().Jumps + JumpEntry.IndexOf(linear, mode.JumpCount);
        ListJump(jump, (long)linear < 0);
        *jump = new JumpEntry { Target = linear, Code = found->Entry };
        return found->Entry;
    }

    Translation* FindTranslation(ulong rip, bool flagsInMemory, bool careful)
    {
        Mode mode = CurrentMode();
        if (mode.IsSegmented) CheckFetch();
        ulong linear = LinearOf(rip);
        TlbEntry* entry = FillForFetch(linear);
        if (entry->Host == null) return null;
        byte* host = entry->Host + (linear & PageMask);
        uint ripBase = mode.IsSegmented ? (uint)RipBaseOf(rip) : 0;
        uint key = (uint)mode.Number << ModeShift | (flagsInMemory ? FlagsInMemory : 0) | (careful ? Careful : 0);
        for (Translation* block = _translations[Bucket(host)]; block != null; block = block->NextInBucket)
            if (block->Host == host && block->Key == key && block->RipBase == ripBase) return block;
        return Translate(rip, entry, mode, key, ripBase);
    }

    static nuint Bucket(byte* host) => (nuint)host * unchecked((nuint)0x9E3779B97F4A7C15) >> 64 - TranslationBucketBits;

    /// <summary>The linear address of an instruction.</summary>
    ulong LinearOf(ulong rip) => _is64Bit ? rip : (uint)(rip + _codeBase);

    /// <summary>RIP at the start of this instruction's page, as <see cref="JitState.RipBase"/> has it. Outside 64-bit mode modulo 4 GiB.</summary>
    ulong RipBaseOf(ulong rip) => _is64Bit ? rip & ~PageMask : (uint)((LinearOf(rip) & ~PageMask) - _codeBase);

    Translation* Translate(ulong rip, TlbEntry* entry, Mode mode, uint key, uint ripBase)
    {
        int offset = (int)(LinearOf(rip) & PageMask);
        byte* page = entry->Host, host = page + offset;
        bool careful = (key & Careful) != 0;
        nuint second = 0;
        PlanPart(mode, ripBase, offset, careful, page, _code[Detail(entry)->Map]);
        if (_engine!.Unit.Count == 0)
        {
            if (!_engine.Unit.EndsAtCrossing) return null;
            TlbEntry* next = Fill(Wrap((LinearOf(rip) & ~PageMask) + PageSize), false, State->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch, Seg.Cs);
            if (next->Host == null || !PlanCrossing(mode, ripBase, offset, careful, page, next->Host, _code[Detail(next)->Map])) return null;
            second = (nuint)next->Host;
        }
        for (int attempt = 0; ; attempt++)
        {
            var block = (Translation*)_region.Allocate(sizeof(Translation), 8);
            if (block != null)
            {
                (block->Key, block->Offset, block->RipBase, block->SecondPage) = (key, offset, ripBase, second);
                block->Host = host;
                if (_engine.Emit(block, mode, offset, (key & FlagsInMemory) != 0, careful))
                {
                    Enlist(block, page);
                    if (CodeTrace != null) Tell(block, rip);
                    return block;
                }
            }
            if (attempt > 0) throw new InvalidOperationException("a block does not fit into an empty code cache");
            ForgetTranslations();
            mode = CurrentMode();
            key = (uint)mode.Number << ModeShift | key & (FlagsInMemory | Careful);
            if (second == 0) _engine.Unit.Plan(mode, ripBase, offset, careful, StepLimit);
            else _engine.Unit.Plan(mode, ripBase, offset, careful, 1, 2 * PageSize);
        }
    }

    /// <summary>Blocks of one instruction: -accel tcg,one-insn-per-tb=on.</summary>
    public bool OneInstruction { get; init; }

    int StepLimit => Lockstep || OneInstruction ? 1 : Unit.MaxSteps;

    void Tell(Translation* block, ulong rip)
    {
        Unit unit = _engine!.Unit;
        CodeTrace!.Decoded(rip, _codeSize * 8, new ReadOnlySpan<byte>(_engine.Page + block->Offset, unit.Count == 0 ? 0 : unit.Steps[unit.Count - 1].Next - block->Offset));
        CodeTrace.Translated(rip, unit.Describe, block->Entry, new ReadOnlySpan<byte>((byte*)block->Entry, _engine.LengthOfLast));
    }

    /// <summary>Plans from what is in a page. The bytes are marked as code, then read again: a write in between is seen either way.</summary>
    void PlanPart(Mode mode, uint ripBase, int offset, bool careful, byte* page, CodeMap map)
    {
        Unit unit = _engine!.Unit;
        int length;
        do
        {
            Buffer.MemoryCopy(page, _engine.Page, PageSize, PageSize);
            unit.Plan(mode, ripBase, offset, careful, StepLimit);
            length = Math.Max(unit.To - unit.From, 1);
            MarkCode(map, page + unit.From, length);
        }
        while (!new ReadOnlySpan<byte>(page + unit.From, length).SequenceEqual(new ReadOnlySpan<byte>(_engine.Page + unit.From, length)));
    }

    /// <summary>Plans an instruction whose first bytes are in one page, the rest in another. False: it is longer than 15 bytes.</summary>
    bool PlanCrossing(Mode mode, uint ripBase, int offset, bool careful, byte* page, byte* next, CodeMap nextMap)
    {
        Unit unit = _engine!.Unit;
        byte* copy = _engine.Page;
        int first = PageSize - offset;
        do
        {
            Buffer.MemoryCopy(page + offset, copy + offset, first, first);
            Buffer.MemoryCopy(next, copy + PageSize, PageSize, MaxInstruction);
            unit.Plan(mode, ripBase, offset, careful, 1, 2 * PageSize);
            if (unit.Count == 0 || unit.Steps[0].Next <= PageSize) return false;
            MarkCode(nextMap, next, unit.Steps[0].Next - PageSize);
        }
        while (!new ReadOnlySpan<byte>(page + offset, first).SequenceEqual(new ReadOnlySpan<byte>(copy + offset, first))
            || !new ReadOnlySpan<byte>(next, MaxInstruction).SequenceEqual(new ReadOnlySpan<byte>(copy + PageSize, MaxInstruction)));
        return true;
    }

    void Enlist(Translation* block, byte* page)
    {
        Translation** bucket = _translations + Bucket(block->Host);
        block->NextInBucket = *bucket;
        *bucket = block;
        _translatedPages.TryGetValue((nuint)page, out nint first);
        block->NextInPage = (Translation*)first;
        _translatedPages[(nuint)page] = (nint)block;
        if (block->SecondPage != 0)
        {
            if (!_crossings.TryGetValue(block->SecondPage, out List<nint>? crossings)) _crossings.Add(block->SecondPage, crossings = []);
            crossings.Add((nint)block);
        }
        Translations++;
    }

    /// <summary>The code of a page has changed: its blocks are void, whoever jumps to them.</summary>
    void DropTranslations(nuint hostPage)
    {
        if (_translatedPages.Remove(hostPage, out nint first))
            for (var block = (Translation*)first; block != null; block = block->NextInPage) Drop(block);
        if (_crossings.Remove(hostPage, out List<nint>? crossings))
            foreach (nint block in crossings) Drop((Translation*)block);
    }

    void Drop(Translation* block)
    {
        if (block->IsStale) return;
        Translation** link = _translations + Bucket(block->Host);
        while (*link != block) link = &(*link)->NextInBucket;
        *link = block->NextInBucket;
        block->IsStale = true;
        _engine!.Invalidate(block);
    }

    void ForgetTranslations()
    {
        _forgets++;
        _lowerJumps.Clear();
        _upperJumps.Clear();
        _lowerReturns.Clear();
        _upperReturns.Clear();
        _jit->LowerAt = _lower;
        _jit->UpperAt = _upper;
        _modes.Clear();
        Array.Clear(_recentModes);
        _mode = null;
        _translatedPages.Clear();
        _crossings.Clear();
        _missed.Clear();
        new Span<nint>(_translations, TranslationBuckets).Clear();
        _region.Forget();
        _engine!.Forget();
    }

    // Of ExitRecord.Listed.
    const byte LowerList = 1, UpperList = 2;

    uint* _lower, _upper;
    readonly List<nint> _lowerJumps = [], _upperJumps = [], _lowerReturns = [], _upperReturns = [];

    /// <summary>No translation of the lower half of the address space holds any more, in data or in code. Outside 64-bit mode
    /// that is all there is.</summary>
    void ForgetLower()
    {
        _jit->LowerAt = Forget(_lower, _jit->LowerAt, LowerList);
        Forget(_lowerJumps, upper: false);
        ForgetReturns(_lowerReturns);
    }

    void ForgetUpper()
    {
        _jit->UpperAt = Forget(_upper, _jit->UpperAt, UpperList);
        Forget(_upperJumps, upper: true);
        ForgetReturns(_upperReturns);
    }

    static uint* Forget(uint* list, uint* end, byte which)
    {
        for (uint* at = list; at < end; at++)
        {
            var record = (ExitRecord*)(nuint)(*at);
            if (((long)record->Slot->Tag < 0) == (which == UpperList)) record->Slot->Tag = Slot.Empty;
            record->Listed &= (byte)~which;
        }
        return list;
    }

    /// <summary>An entry of a jump table is about to be filled; it is listed already if what it holds is of the same half.</summary>
    void ListJump(JumpEntry* jump, bool upper)
    {
        if (jump->Target != JumpEntry.Empty && (long)jump->Target < 0 == upper) return;
        List<nint> list = upper ? _upperJumps : _lowerJumps;
        if (list.Count >= MostListed) Forget(list, upper);
        list.Add((nint)jump);
    }

    const int MostListed = 1 << 17;

    static void Forget(List<nint> jumps, bool upper)
    {
        foreach (nint jump in jumps)
        {
            var entry = (JumpEntry*)jump;
            if ((long)entry->Target < 0 == upper) entry->Target = JumpEntry.Empty;
        }
        jumps.Clear();
    }

    /// <summary>As <see cref="FindCode"/>, for a target that is entered with flags in EFLAGS.</summary>
    /// <returns>False: it is for the run loop.</returns>
    bool GoToReturn(ulong rip)
    {
        UnpackState(rip);                                           // finding may fault
        if (_attention != 0 || Lockstep) return false;
        Translation* found = FindTranslation(rip, flagsInMemory: false, careful: false);
        if (found == null) return false;
        ReturnEntry* entry = CurrentMode().Returns + ReturnEntry.IndexOf(rip);
        List<nint> list = (long)rip < 0 ? _upperReturns : _lowerReturns;
        if (list.Count >= MostListed) ForgetReturns(list);
        list.Add((nint)entry);
        (entry->Negated, entry->Page) = (0 - rip, rip & ~PageMask);
        _engine!.EmitArrival(entry, found->Entry);
        _jit->RipBase = rip & ~PageMask;
        _jit->VectorsLoaded = 0;
        Enter(found->Entry, _engine!.Common.Enter);
        return true;
    }

    /// <summary>An entry that was filled again for the other half is on both lists, and goes with either.</summary>
    static void ForgetReturns(List<nint> entries)
    {
        foreach (nint entry in entries) ((ReturnEntry*)entry)->Clear();
        entries.Clear();
    }

    /// <summary>No translation of this linear page holds any more.</summary>
    void ForgetPage(ulong page)
    {
        bool isUpper = (long)page < 0;
        uint* end = isUpper ? _jit->UpperAt : _jit->LowerAt;
        for (uint* at = isUpper ? _upper : _lower; at < end; at++)
        {
            var record = (ExitRecord*)(nuint)(*at);
            // Whatever data a pointer carries (see Untag).
            if (((record->Slot->Tag ^ page) & ~PointerData) == 0) record->Slot->Tag = Slot.Empty;
        }
        foreach (nint jump in isUpper ? _upperJumps : _lowerJumps)
            if ((((JumpEntry*)jump)->Target & ~PageMask) == page) ((JumpEntry*)jump)->Target = isUpper ? JumpEntry.NoneUpper : JumpEntry.NoneLower;
        foreach (nint entry in isUpper ? _upperReturns : _lowerReturns)
            if (((ReturnEntry*)entry)->Page == page) ((ReturnEntry*)entry)->Clear();
    }

    /// <summary>No store goes straight to this page any more.</summary>
    void ForgetStores(nuint hostPage)
    {
        if (_engine == null || *StoresTo(hostPage) == 0) return;
        for (uint* at = _lower; at < _jit->LowerAt; at++) ForgetStore((ExitRecord*)(nuint)(*at), hostPage);
        for (uint* at = _upper; at < _jit->UpperAt; at++) ForgetStore((ExitRecord*)(nuint)(*at), hostPage);
    }

    /// <summary>Whether slots for stores may lead to this page.</summary>
    byte* StoresTo(nuint hostPage) => _jit->StorePages + (hostPage >> GuestRam.PageShift & JitState.StorePagesCount - 1);

    static void ForgetStore(ExitRecord* record, nuint hostPage)
    {
        if (record->IsWrite != 0 && record->Slot->Tag + record->Slot->Addend == hostPage) record->Slot->Tag = Slot.Empty;
    }

    Mode? _mode;
    bool _modeMayDiffer;
    ulong _modeBits = ulong.MaxValue;

    /// <summary>What the processor's state means for translated code.</summary>
    Mode CurrentMode()
    {
        // Outside 64-bit mode any segment register counts.
        if (_mode != null && !_modeMayDiffer && _is64Bit) return _mode;
        _modeMayDiffer = false;
        ulong bits = ModeBits();
        uint start = (uint)_codeBase, limit = _is64Bit ? uint.MaxValue : State->Cs.Limit;
        if (_mode != null && bits == _modeBits && start == _mode.CodeBase && limit == _mode.CodeLimit) return _mode;
        _modeBits = bits;
        _mode = TryModeOf(bits, start, limit);
        if (_mode == null)
        {
            ForgetTranslations();
            _mode = TryModeOf(bits, start, limit) ?? throw new InvalidOperationException("no room for a jump table in an empty code cache");
        }
        return _mode;
    }

    /// <summary>Null: there is no room for one more.</summary>
    internal Mode? TryModeOf(ulong bits, uint codeBase = 0, uint codeLimit = uint.MaxValue)
    {
        ref Mode? recent = ref _recentModes[(bits ^ bits >> 1 ^ bits >> 6 ^ codeBase >> 4) & RecentModes - 1];
        if (recent != null && recent.Bits == bits && recent.CodeBase == codeBase && recent.CodeLimit == codeLimit) return recent;
        if (_modes.TryGetValue((bits, codeBase, codeLimit), out Mode? known)) return recent = known;
        Mode? mode = MakeMode(bits, codeBase, codeLimit);
        if (mode != null) _modes.Add((bits, codeBase, codeLimit), mode);
        return mode;
    }

    internal const ulong ModeIs64 = 1, ModeUser = 2, ModeAc = 4, ModeSse = 8, ModeAvx = 0x10, ModeX87 = 0x20, ModeSystemCall = 0x80,
        ModeFiveLevels = 1 << 24, ModeAvx512 = 1 << 25, ModeBases = 1 << 28, ModeDown = 1 << 14, ModeCode16 = 1 << 15, ModeReal = 1 << 22, ModeSmallStack = 1 << 23;

    // Bits by segment: without a limit; with base 0; with the limit FFFFh; with another.
    internal const int ModeOpen = 8, ModeFlat = 16, ModeWord = 32, ModeLimited = 40;

    ulong ModeBits()
    {
        const uint mxcsrMasks = 0x1F80;
        const ushort x87Masks = 0x3F;
        CpuState* s = State;
        ulong bits = s->Cpl == 3 ? ModeUser : 0;
        if (s->Cpl != 3 && (s->RflagsSystem & Interpreter.Rflags.Ac) != 0) bits |= ModeAc;
        bool fpu = (s->Cr0 & (Interpreter.Cr0.Em | Interpreter.Cr0.Ts)) == 0;
        if (fpu && (s->Cr4 & Cr4.Osfxsr) != 0 && (*(uint*)(s->Xsave.Bytes + XsaveArea.Mxcsr) & mxcsrMasks) == mxcsrMasks)
        {
            bits |= ModeSse;
            if ((s->Cr4 & Cr4.Osxsave) != 0 && (s->Xcr0 & 6) == 6) bits |= ModeAvx | ((s->Xcr0 & Avx512State) == Avx512State ? ModeAvx512 : 0);
        }
        if (fpu && (_jit->X87Loaded != 0 || (X87Control & x87Masks) == x87Masks && (X87Status & X87Summary) == 0)) bits |= ModeX87;
        if ((s->Efer & Efer.Sce) != 0) bits |= ModeSystemCall;
        if ((s->Cr4 & Cr4.La57) != 0) bits |= ModeFiveLevels;
        if ((s->Cr4 & Cr4.Fsgsbase) != 0) bits |= ModeBases;
        if (!GoesUp) bits |= ModeDown;
        if (_is64Bit) return bits | ModeIs64;
        bool isReal = IsRealAddressing;
        if (isReal) bits |= ModeReal;
        if (_codeSize == 2) bits |= ModeCode16;
        if ((s->Ss.Access & Segment.Big) == 0) bits |= ModeSmallStack;
        for (int i = 0; i < Seg.Count; i++)
        {
            ref Segment segment = ref s->Segment(i);
            if (!isReal && segment.Base == 0) bits |= 1UL << ModeFlat + i;
            if (!IsPlain(segment, isReal)) continue;
            bits |= 1UL << i + (segment.Limit switch { uint.MaxValue => ModeOpen, ushort.MaxValue => ModeWord, _ => ModeLimited });
        }
        return bits;
    }

    /// <summary>It takes both reads and writes up to its limit.</summary>
    static bool IsPlain(in Segment segment, bool isReal)
    {
        const uint kind = Segment.Present | Segment.System | Segment.Code | Segment.ExpandDown | Segment.Writable;
        // Real-address mode looks at no rights, but at the direction in which a segment left from before grows.
        return isReal ? (segment.Access & Segment.Present) != 0 && (segment.Access & (Segment.Code | Segment.ExpandDown)) != Segment.ExpandDown
            : (segment.Access & kind) == (Segment.Present | Segment.System | Segment.Writable);
    }

    Mode? MakeMode(ulong bits, uint codeBase, uint codeLimit)
    {
        bool isFlat = (bits & ModeCode16) == 0 && codeBase == 0 && codeLimit == uint.MaxValue;
        int count = isFlat ? JumpEntry.Count : JumpEntry.FewCount;
        var jumps = (JumpEntry*)_region.Allocate(count * sizeof(JumpEntry), 64);
        if (jumps == null) return null;
        for (int i = 0; i < count; i++) jumps[i].Target = JumpEntry.Empty;
        ReturnEntry* returns = null;
        if ((bits & ModeIs64) != 0 && s_hostHasBmi2)
        {
            returns = (ReturnEntry*)_region.Allocate(ReturnEntry.Count * sizeof(ReturnEntry), 64);
            if (returns == null) return null;
            uint arrivals = _engine!.AllocateArrivals(ReturnEntry.Count);
            if (arrivals == 0) return null;
            for (uint i = 0; i < ReturnEntry.Count; i++)
            {
                returns[i].Index = i;
                returns[i].Code = arrivals + i * Engine.ArrivalSize;
                returns[i].Clear();
            }
        }
        return new Mode
        {
            Bits = bits, CodeSize = (bits & ModeIs64) != 0 ? 8 : (bits & ModeCode16) != 0 ? 2 : 4, CodeBase = codeBase, CodeLimit = codeLimit,
            Number = _modes.Count, HasSse = (bits & ModeSse) != 0, HasAvx = (bits & ModeAvx) != 0, HasX87 = (bits & ModeX87) != 0,
            Jumps = jumps, JumpCount = count, Returns = returns,
        };
    }

    /// <summary>Bmi2.IsSupported is no measure: it is false in code compiled ahead for x86-64-v2.</summary>
    static readonly bool s_hostHasBmi2 = X86Base.CpuId(0, 0).Eax >= 7 && (X86Base.CpuId(7, 0).Ebx & 1 << 8) != 0;

    bool CanTranslate()
    {
        bool can = Translates && !_checksAlignment;
        if (can && _engine == null) StartTranslator();
        return can;
    }

    void StartTranslator()
    {
        _translations = (Translation**)NativeMemory.AllocZeroed(TranslationBuckets, (nuint)sizeof(Translation*));
        _jit->LowerAt = _lower = (uint*)NativeMemory.Alloc((nuint)(_region.DataSize / ExitRecord.SizeOf(ExitKind.Miss)), sizeof(uint));
        _jit->UpperAt = _upper = (uint*)NativeMemory.Alloc((nuint)(_region.DataSize / ExitRecord.SizeOf(ExitKind.Miss)), sizeof(uint));
        _jit->StorePages = _region.Allocate(JitState.StorePagesCount, 64);
        _jit->ReturnMask = (ReturnEntry.Count - 1) << ReturnEntry.Shift;
        _jit->HostMxcsr = 0x1F80;
        _jit->X87Area = _region.Allocate(1024, 64);
        _engine = new Engine(this, _region, State, _jit);
        _region.Keep();
    }
}
