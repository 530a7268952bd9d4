using System.Runtime.InteropServices;
using Qkvm.Accel.Tcg.Translator;
using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;
using Engine = Qkvm.Accel.Tcg.Translator.Translator;

// SAFETY: translations, records and slots lie in the vCPU's CodeRegion; all are forgotten before their room is used
// again.
/// <summary>The blocks translated for this vCPU. Keyed by the host address of their first byte and by mode; when memory
/// for them is used up, all are forgotten.</summary>
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
    int _forgets, _drops;

    /// <summary>Statistics of the translator.</summary>
    public long Translations { get; private set; }
    public long Links { get; private set; }
    public long TlbMisses { get; private set; }
    public int Evictions => _forgets;
    public TranslatorStatistics Statistics =>
        new(Translations, _engine?.CodeUsed ?? 0, _region.CodeSize, _region.DataUsed, _region.DataSize, Evictions,
        Links,
        (long)_jit->FastMisses, TlbMisses);

    /// <summary>Where code for this RIP is, entered with flags in memory; 0: it must be interpreted. May
    /// fault.</summary>
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

    /// <summary>Blocks of a page have neighbouring buckets: finding many of them after a change of processes waits for
    /// fewer lines of the host's memory.</summary>
    static nuint Bucket(byte* host)
    {
        nuint page = (nuint)host >> GuestRam.PageShift, offset = (nuint)host % PageSize;
        return (page * unchecked((nuint)0x9E3779B97F4A7C15) >> 64 - TranslationBucketBits) + offset / 16
            & TranslationBuckets - 1;
    }

    /// <summary>The linear address of an instruction.</summary>
    ulong LinearOf(ulong rip) => _is64Bit ? rip : (uint)(rip + _codeBase);

    /// <summary>RIP at the start of this instruction's page, as <see cref="JitState.RipBase"/> has it. Outside 64-bit
    /// mode modulo 4 GiB.</summary>
    ulong RipBaseOf(ulong rip) => _is64Bit ? rip & ~PageMask : (uint)((LinearOf(rip) & ~PageMask) - _codeBase);

    Translation* Translate(ulong rip, TlbEntry* entry, Mode mode, uint key, uint ripBase)
    {
        int offset = (int)(LinearOf(rip) & PageMask);
        byte* page = entry->Host, host = page + offset;
        bool careful = (key & Careful) != 0;
        nuint second = 0;
        _engine!.Unit.Stops = StopsIn(page);
        if (_engine.Unit.StopsBefore(offset)) return null;
        PlanPart(mode, ripBase, offset, careful, page, _code[Detail(entry)->Map]);
        if (_engine.Unit.Count == 0)
        {
            if (!_engine.Unit.EndsAtCrossing) return null;
            // What lies beyond CS.limit is not fetched: #GP, and no #PF of the next page.
            if (!_is64Bit && rip + (ulong)(PageSize - offset) > State->Cs.Limit) return null;
            TlbEntry* next = Fill(Wrap((LinearOf(rip) & ~PageMask) + PageSize), false, State->Cpl == 3
                ? TlbSet.UserFetch : TlbSet.SupervisorFetch, Seg.Cs);
            if (next->Host == null
                || !PlanCrossing(mode, ripBase, offset, careful, page, next->Host,
                _code[Detail(next)->Map])) return null;
            second = (nuint)next->Host;
        }
        for (int attempt = 0; ; attempt++)
        {
            var block = (Translation*)_region.Allocate(sizeof(Translation), 8);
            if (block != null)
            {
                (block->Key, block->Offset, block->RipBase, block->SecondPage) = (key, offset, ripBase, second);
                block->Host = host;
                (block->From, block->To) =
                    ((ushort)_engine.Unit.From, (ushort)Math.Clamp(_engine.Unit.To, offset + 1, PageSize));
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

    /// <summary>Blocks of one instruction: -accel tcg,one-insn-per-tb=on and `singlestep`. Set while the vCPU
    /// stands.</summary>
    public bool OneInstruction
    {
        get;
        set
        {
            if (field != value && _engine != null) ForgetTranslations();
            field = value;
        }
    }

    int StepLimit => Lockstep || OneInstruction ? 1 : Unit.MaxSteps;

    void Tell(Translation* block, ulong rip)
    {
        Unit unit = _engine!.Unit;
        CodeTrace!.Decoded(rip, _codeSize * 8,
            new ReadOnlySpan<byte>(_engine.Page + block->Offset, unit.Count == 0 ? 0
            : unit.Steps[unit.Count - 1].Next - block->Offset));
        CodeTrace.Translated(rip, unit.Describe, block->Entry,
            new ReadOnlySpan<byte>((byte*)block->Entry, _engine.LengthOfLast));
    }

    /// <summary>Plans from what is in a page. The bytes are marked as code, then read again: a write in between is seen
    /// either way.</summary>
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
        while (!new ReadOnlySpan<byte>(page + unit.From, length)
            .SequenceEqual(new ReadOnlySpan<byte>(_engine.Page + unit.From, length)));
    }

    /// <summary>Plans an instruction whose first bytes are in one page, the rest in another. False: it is longer than
    /// 15 bytes.</summary>
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
            || !new ReadOnlySpan<byte>(next, MaxInstruction)
            .SequenceEqual(new ReadOnlySpan<byte>(copy + PageSize, MaxInstruction)));
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
            if (!_crossings.TryGetValue(block->SecondPage, out List<nint>? crossings))
                _crossings.Add(block->SecondPage, crossings = []);
            crossings.Add((nint)block);
        }
        Translations++;
    }

    /// <summary>Bytes of a page have changed: blocks that depend on them are void, whoever jumps to them.</summary>
    void DropTranslations(nuint hostPage, int from, int to)
    {
        if (_translatedPages.Remove(hostPage, out nint first))
        {
            Translation* left = null, next;
            for (var block = (Translation*)first; block != null; block = next)
            {
                next = block->NextInPage;
                if (block->From < to && from < block->To) Drop(block);
                if (block->IsStale) continue;
                block->NextInPage = left;
                left = block;
            }
            if (left != null) _translatedPages.Add(hostPage, (nint)left);
        }
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
        _drops++;
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

    bool CanTranslate()
    {
        bool can = Translates && !_checksAlignment;
        if (can && _engine == null) StartTranslator();
        return can;
    }

    void StartTranslator()
    {
        _translations = (Translation**)NativeMemory.AllocZeroed(TranslationBuckets, (nuint)sizeof(Translation*));
        _jit->LowerAt = _lower = (uint*)NativeMemory.Alloc((nuint)(_region.DataSize / ExitRecord.SizeOf(ExitKind.Miss)),
            sizeof(uint));
        _jit->UpperAt = _upper = (uint*)NativeMemory.Alloc((nuint)(_region.DataSize / ExitRecord.SizeOf(ExitKind.Miss)),
            sizeof(uint));
        _jit->StorePages = _region.Allocate(JitState.StorePagesCount, 64);
        _jit->HostMxcsr = 0x1F80;
        _jit->X87Area = _region.Allocate(512, 64);
        _engine = new Engine(this, _region, State, _jit);
        _region.Keep();
    }
}
