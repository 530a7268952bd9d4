using System.Runtime.InteropServices;
using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg.Interpreter;
using Engine = Qkvm.Accel.Tcg.Translator.Translator;

/// <summary>The blocks translated for this vCPU. Keyed by the host address of their first byte and by mode; when memory for them
/// is used up, all are forgotten.</summary>
public sealed unsafe partial class Cpu
{
    const int RegionData = 24 << 20, RegionCode = 32 << 20, TranslationBuckets = 1 << 16, JournalEntries = 1 << 16;

    // Low bits of Translation.Key; the mode's number follows.
    const uint FlagsInMemory = 1, Careful = 2;
    const int ModeShift = 2;

    readonly Dictionary<uint, Mode> _modes = [];
    readonly Dictionary<nuint, nint> _translatedPages = [];
    readonly List<nint> _jumpsUsed = [];
    Translation** _translations;
    uint* _slotJournal;
    int _forgets;

    /// <summary>Statistics of the translator.</summary>
    public long Translations { get; private set; }
    public long Links { get; private set; }
    public long TlbMisses { get; private set; }
    public int Evictions => _forgets;
    public int CodeBytes => _engine?.CodeUsed ?? 0;

    /// <summary>Where code for this RIP is, entered with flags in memory; 0: it must be interpreted. May fault.</summary>
    uint FindCode(ulong rip)
    {
        Mode mode = CurrentMode();
        JumpEntry* jump = mode.Jumps + JumpEntry.IndexOf(rip);
        if (jump->Target == rip) return (uint)jump->Code;
        Translation* found = FindTranslation(rip, flagsInMemory: true, careful: false);
        if (found == null) return 0;
        jump = CurrentMode().Jumps + JumpEntry.IndexOf(rip);
        if (jump->Target == JumpEntry.Empty) _jumpsUsed.Add((nint)jump);
        *jump = new JumpEntry { Target = rip, Code = found->Entry };
        return found->Entry;
    }

    Translation* FindTranslation(ulong rip, bool flagsInMemory, bool careful)
    {
        Mode mode = CurrentMode();
        int set = State->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch;
        TlbEntry* entry = Fill(rip, false, set, Seg.Cs);
        if (entry->Host == null) return null;
        byte* host = entry->Host + (rip & PageMask);
        uint key = (uint)mode.Number << ModeShift | (flagsInMemory ? FlagsInMemory : 0) | (careful ? Careful : 0);
        for (Translation* block = _translations[Hash(host)]; block != null; block = block->NextInBucket)
            if (block->Host == host && block->Key == key) return block;
        return Translate(host, mode, key, _code[Detail(entry)->Map]);
    }

    Translation* Translate(byte* host, Mode mode, uint key, CodeMap map)
    {
        int offset = (int)((nuint)host & PageMask);
        byte* page = host - offset;
        bool careful = (key & Careful) != 0;
        Unit unit = _engine!.Unit;
        while (true)
        {
            Buffer.MemoryCopy(page, _engine.Page, PageSize, PageSize);
            unit.Plan(mode, offset, careful, Lockstep ? 1 : Unit.MaxSteps);
            int length = Math.Max(unit.To - unit.From, 1);
            if (map.Mark(page + unit.From, length))
            {
                UntagWrites((nuint)page);
                ForgetSlots();
                _code.Post(new CodeNotice(CodeNoticeKind.Untag, (nuint)page, map.Index), this);
            }
            if (new ReadOnlySpan<byte>(page + unit.From, length).SequenceEqual(new ReadOnlySpan<byte>(_engine.Page + unit.From, length))) break;
        }
        for (int attempt = 0; ; attempt++)
        {
            var block = (Translation*)_region.Allocate(sizeof(Translation), 8);
            if (block != null)
            {
                (block->Key, block->Offset) = (key, (ushort)offset);
                block->Host = host;
                if (_engine.Emit(block, mode, offset, (key & FlagsInMemory) != 0, careful))
                {
                    Enlist(block, page);
                    return block;
                }
            }
            if (attempt > 0) throw new InvalidOperationException("a block does not fit into an empty code cache");
            ForgetTranslations();
            mode = CurrentMode();
            key = (uint)mode.Number << ModeShift | key & (FlagsInMemory | Careful);
            unit.Plan(mode, offset, careful);
        }
    }

    void Enlist(Translation* block, byte* page)
    {
        Translation** bucket = _translations + Hash(block->Host);
        block->NextInBucket = *bucket;
        *bucket = block;
        _translatedPages.TryGetValue((nuint)page, out nint first);
        block->NextInPage = (Translation*)first;
        _translatedPages[(nuint)page] = (nint)block;
        Translations++;
    }

    /// <summary>The code of a page has changed: its blocks are void, whoever jumps to them.</summary>
    void DropTranslations(nuint hostPage)
    {
        if (!_translatedPages.Remove(hostPage, out nint first)) return;
        for (var block = (Translation*)first; block != null; block = block->NextInPage)
        {
            Translation** link = _translations + Hash(block->Host);
            while (*link != block) link = &(*link)->NextInBucket;
            *link = block->NextInBucket;
            block->IsStale = true;
            _engine!.Redirect(block->Entry, block->StaleStub);
        }
    }

    void ForgetTranslations()
    {
        _forgets++;
        _jumpsUsed.Clear();
        _jit->JournalAt = _slotJournal;
        _modes.Clear();
        _mode = null;
        _translatedPages.Clear();
        new Span<nint>(_translations, TranslationBuckets).Clear();
        _region.Forget();
        _engine!.Forget();
    }

    /// <summary>No translation of addresses holds any more, in data or in code.</summary>
    void ForgetFastPaths()
    {
        ForgetSlots();
        foreach (nint jump in _jumpsUsed) ((JumpEntry*)jump)->Target = JumpEntry.Empty;
        _jumpsUsed.Clear();
    }

    void ForgetSlots()
    {
        for (uint* at = _slotJournal; at < _jit->JournalAt; at++) ((Slot*)(nuint)(*at))->Tag = Slot.Empty;
        _jit->JournalAt = _slotJournal;
    }

    Mode? _mode;
    uint _modeBits = uint.MaxValue;

    /// <summary>What the processor's state means for translated code.</summary>
    Mode CurrentMode()
    {
        uint bits = ModeBits();
        if (_mode != null && bits == _modeBits) return _mode;
        _modeBits = bits;
        if (!_modes.TryGetValue(bits, out _mode)) _modes.Add(bits, _mode = MakeMode(bits));
        return _mode;
    }

    const uint ModeIs64 = 1, ModeUser = 2, ModeAc = 4, ModeSse = 8, ModeAvx = 0x10, ModeX87 = 0x20, ModeStack = 0x40;
    const int ModeOpen = 8, ModeFlat = 16;

    uint ModeBits()
    {
        const uint mxcsrMasks = 0x1F80;
        const ushort x87Masks = 0x3F;
        CpuState* s = State;
        uint bits = s->Cpl == 3 ? ModeUser : 0u;
        if (s->Cpl != 3 && (s->RflagsSystem & Interpreter.Rflags.Ac) != 0) bits |= ModeAc;
        bool fpu = (s->Cr0 & (Interpreter.Cr0.Em | Interpreter.Cr0.Ts)) == 0;
        if (fpu && (s->Cr4 & Cr4.Osfxsr) != 0 && (*(uint*)(s->Xsave.Bytes + XsaveArea.Mxcsr) & mxcsrMasks) == mxcsrMasks)
        {
            bits |= ModeSse;
            if ((s->Cr4 & Cr4.Osxsave) != 0 && (s->Xcr0 & 6) == 6) bits |= ModeAvx;
        }
        if (fpu && (_jit->X87Loaded != 0 || (X87Control & x87Masks) == x87Masks && (X87Status & X87Summary) == 0)) bits |= ModeX87;
        if (_is64Bit) return bits | ModeIs64 | ModeStack;
        for (int i = 0; i < Seg.Count; i++)
        {
            ref Segment segment = ref s->Segment(i);
            const uint kind = Segment.Present | Segment.System | Segment.Code | Segment.ExpandDown | Segment.Writable;
            if (segment.Limit == uint.MaxValue && (segment.Access & kind) == (Segment.Present | Segment.System | Segment.Writable)) bits |= 1u << ModeOpen + i;
            if (segment.Base == 0) bits |= 1u << ModeFlat + i;
        }
        if ((bits >> ModeOpen + Seg.Ss & bits >> ModeFlat + Seg.Ss & 1) != 0 && (s->Ss.Access & Segment.Big) != 0) bits |= ModeStack;
        return bits;
    }

    Mode MakeMode(uint bits)
    {
        var jumps = (JumpEntry*)_region.Allocate(JumpEntry.Count * sizeof(JumpEntry), 64);
        if (jumps == null)
        {
            ForgetTranslations();
            jumps = (JumpEntry*)_region.Allocate(JumpEntry.Count * sizeof(JumpEntry), 64);
        }
        for (int i = 0; i < JumpEntry.Count; i++) jumps[i].Target = JumpEntry.Empty;
        return new Mode
        {
            CodeSize = (bits & ModeIs64) != 0 ? 8 : 4, Number = _modes.Count, HasSse = (bits & ModeSse) != 0, HasAvx = (bits & ModeAvx) != 0,
            HasX87 = (bits & ModeX87) != 0, HasStack = (bits & ModeStack) != 0, OpenSegments = (byte)(bits >> ModeOpen & 0x3F),
            FlatSegments = (byte)(bits >> ModeFlat & 0x3F), Jumps = jumps,
        };
    }

    /// <summary>Long mode, or protected mode with a flat code segment of 32 bits.</summary>
    bool CanTranslate()
    {
        if (!Translates) return false;
        bool known = _is64Bit || _codeSize == 4 && IsProtected && !IsVirtual8086 && State->Cs.Base == 0 && State->Cs.Limit == uint.MaxValue;
        if (known && _engine == null) StartTranslator();
        return known;
    }

    void StartTranslator()
    {
        _translations = (Translation**)NativeMemory.AllocZeroed(TranslationBuckets, (nuint)sizeof(Translation*));
        _slotJournal = (uint*)NativeMemory.Alloc(JournalEntries, sizeof(uint));
        _jit->JournalAt = _slotJournal;
        _jit->JournalEnd = _slotJournal + JournalEntries;
        _jit->HostMxcsr = 0x1F80;
        _engine = new Engine(this, _region, State, _jit);
        _region.Keep();
    }
}
