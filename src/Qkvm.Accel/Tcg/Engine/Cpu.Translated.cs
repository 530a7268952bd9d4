using System.Runtime.InteropServices;
using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg;
using Engine = Qkvm.Accel.Tcg.Translator.Translator;

// SAFETY: translations, records and slots lie in the vCPU's CodeRegion; all are forgotten before their room is used
// again.
/// <summary>The run loop's faster half: translated code, and what it leaves for.</summary>
public sealed unsafe partial class Cpu
{
    readonly CodeRegion _region;
    readonly JitState* _jit;
    Engine? _engine;

    /// <summary>The mode is one that the translator knows, and it is wanted.</summary>
    bool _translatable;

    /// <summary>Translate, where possible; otherwise all is interpreted. Set before the vCPU runs.</summary>
    public bool Translates { get; set; }

    /// <summary>Code runs from here as long as nobody calls and the mode can be translated. RIP and flags are right
    /// before and after.</summary>
    void RunTranslated()
    {
        while (_attention == 0 && _translatable)
        {
            uint code = FindCode(State->Rip);
            if (code == 0)
            {
                if (IsAtStop) return;
                RunOne();
                continue;
            }
            PackState();
            _jit->VectorsLoaded = 0;
            Enter(code, _engine!.Common.Enter);
            while (TryContinue()) { }
        }
    }

    void Enter(uint code, uint through)
    {
        bool interruptible = (State->RflagsSystem & Tcg.Rflags.If) != 0;
        _jit->InterruptWaits = (byte)(!interruptible && WaitsForFlag() ? 1 : 0);
        ((delegate* unmanaged<ulong, void>)(nint)through)(code);
    }

    /// <summary>After an exit: goes on in translated code, or leaves RIP and flags to the loop (false).</summary>
    bool TryContinue()
    {
        ExitRecord* record = _jit->Exit;
        if (_jit->ModeStale != 0)
        {
            _jit->ModeStale = 0;
            ModeChanged();
        }
        ulong rip = _jit->RipBase + (ulong)(long)record->Offset;
        if (!_is64Bit) rip = (uint)rip;
        switch (record->Kind)
        {
            case ExitKind.Direct or ExitKind.CrossPage or ExitKind.Stale:
                return Link(record, rip);
            case ExitKind.Indirect or ExitKind.Return when record->IsSimple != 0 && _is64Bit
                && !IsCanonical(_jit->ExitValue):
                // The jump faults, not what it leads to.
                UnpackState(rip);
                Rsp += (ulong)(int)record->Host;
                RunOne();
                return false;
            case ExitKind.Indirect:
                UnpackState(_is64Bit ? _jit->ExitValue : (uint)(_jit->ExitValue - _codeBase));
                return false;
            case ExitKind.ReadTsc or ExitKind.ReadTscAux:
                return ReadTsc(record, rip);
            case ExitKind.Return:
                return GoToReturn(_jit->ExitValue);
            case ExitKind.LoadX87:
                LoadX87();
                Enter(record->Host, _engine!.Common.EnterWithVectors);
                return true;
            case ExitKind.Yield:
                return Yield(record, rip);
            case ExitKind.Miss:
                return Refill(record, rip);
            case ExitKind.Limit:
                return TakeApart(record, rip);
            case ExitKind.StringMiss:
                return RefillString(record, rip);
            case ExitKind.SecondPage:
                return CheckSecondPage(record, rip);
            case ExitKind.Interpret:
                UnpackState(rip);
                if (*ExitRecord.InsnOf(record) is var insn && insn == null) RunOne();
                else RunDecoded(insn);
                return false;
            default:
                UnpackState(rip);
                return false;
        }
    }

    bool ReadTsc(ExitRecord* record, ulong rip)
    {
        if ((State->Cr4 & Cr4.Tsd) != 0 && State->Cpl != 0 || IsGuest && InterceptsTsc)
        {
            UnpackState(rip);
            RunOne();
            return false;
        }
        ulong value = SeenTsc;
        (State->Gpr[0], State->Gpr[2]) = ((uint)value, value >> 32);
        if (record->Kind == ExitKind.ReadTscAux) State->Gpr[1] = (uint)State->TscAux;
        Enter(record->Host, _engine!.Common.EnterWithVectors);
        return true;
    }

    /// <summary>Finds a direct jump's target, remembers it in the code, and goes there.</summary>
    bool Link(ExitRecord* record, ulong rip)
    {
        if (_attention != 0)
        {
            UnpackState(rip);
            return false;
        }
        UnpackState(rip);                                          // finding may fault
        if (Lockstep) return false;
        var stale = record->Kind == ExitKind.Stale ? (Translation*)record : null;
        uint key = stale != null ? stale->Key : record->FlagsInMemory != 0 ? FlagsInMemory : 0;
        int forgets = _forgets, drops = _drops;
        Translation* target = FindTranslation(rip, (key & FlagsInMemory) != 0, (key & Careful) != 0);
        if (target == null) return false;
        // A block that was dropped meanwhile has a way out where the jump may have been.
        if (forgets == _forgets && drops == _drops)
        {
            if (stale != null) _engine!.Redirect(stale->Entry, target->Entry);
            else
            {
                _engine!.Patch(record->Host, target->Entry);
                if (record->Kind == ExitKind.CrossPage)
                {
                    Fill(record, LinearOf(rip) & ~PageMask, 0);
                    (record->Target, record->HostPage) = (target->Entry, (nuint)target->Host & ~(nuint)PageMask);
                }
                Links++;
            }
        }
        _jit->RipBase = RipBaseOf(rip);
        _jit->VectorsLoaded = 0;
        Enter(target->Entry, _engine!.Common.Enter);
        return true;
    }

    /// <summary>A check failed: the slot is filled if direct access is possible. Otherwise an access that stands for
    /// itself is interpreted or faults, and a group is taken apart.</summary>
    bool Refill(ExitRecord* record, ulong rip)
    {
        ulong tagged = _jit->ExitValue, linear = Untag(tagged), page = linear & ~PageMask;
        bool write = record->IsWrite != 0;
        TlbMisses++;
        if (record->Misses == ExitRecord.MostMisses && !LetRoam(record, rip)) return false;
        if ((linear & PageMask) <= record->Limit)
        {
            if (TryFill(linear, write, CurrentSet, out TlbEntry* entry, out uint error))
            {
                // What looks into the TLB finds no tagged pointer there.
                if ((write ? entry->WriteTag : entry->ReadTag) == page && (tagged == linear || !Roams(SiteOf(record))))
                {
                    Fill(record, tagged & ~PageMask, (ulong)entry->Host - (tagged & ~PageMask));
                    Enter(record->Host, _engine!.Common.EnterWithVectors);
                    return true;
                }
            }
            // An operand of 16 bytes and more may have to be aligned, and #GP goes before #PF: the interpreter knows.
            else if (record->IsSimple == 1 && IsCanonical(linear)
                && (record->Limit > PageSize - 16 || (linear & (ulong)(PageSize - 1 - record->Limit)) == 0))
            {
                UnpackState(rip);
                DeliverFault(PageFault(linear, error));
                return false;
            }
        }
        return TakeApart(record, rip);
    }

    /// <summary>What direct access cannot do: the interpreter runs the instruction, or the group's accesses are checked
    /// one by one.</summary>
    bool TakeApart(ExitRecord* record, ulong rip)
    {
        UnpackState(rip);
        if (record->IsSimple != 0)
        {
            RunOne();
            return false;
        }
        int forgets = _forgets;
        Translation* careful = FindTranslation(rip, flagsInMemory: true, careful: true);
        if (careful == null) return false;
        if (forgets == _forgets && record->Kind == ExitKind.Miss) record->Target = careful->Entry;
        _jit->VectorsLoaded = 0;
        Enter(careful->Entry, _engine!.Common.Enter);
        return true;
    }

    /// <summary>A string instruction's next element is not in the TLB: it goes on if direct access is possible once it
    /// is. Its registers say what is done, as for faults and for the interpreter.</summary>
    bool RefillString(ExitRecord* record, ulong rip)
    {
        ulong linear = _jit->ExitValue;
        bool write = record->IsWrite != 0;
        TlbMisses++;
        if ((linear & PageMask) <= record->Limit)
        {
            if (TryFill(linear, write, CurrentSet, out TlbEntry* entry, out uint error))
            {
                if ((write ? entry->WriteTag : entry->ReadTag) == (linear & ~PageMask))
                {
                    Enter(record->Host, _engine!.Common.EnterWithVectors);
                    return true;
                }
            }
            else if (record->IsSimple != 0 && IsCanonical(linear))
            {
                UnpackState(rip);
                DeliverFault(PageFault(linear, error));
                return false;
            }
        }
        UnpackState(rip);
        RunOne();
        return false;
    }

    /// <summary>The second half of an instruction: if it is in another host page by now, the block is void.</summary>
    bool CheckSecondPage(ExitRecord* record, ulong rip)
    {
        UnpackState(rip);                                          // finding may fault
        ulong page = Wrap((LinearOf(rip) & ~PageMask) + PageSize);
        TlbEntry* entry = Fill(page, false, State->Cpl == 3 ? TlbSet.UserFetch : TlbSet.SupervisorFetch, Seg.Cs);
        if ((nuint)entry->Host != record->HostPage)
        {
            Drop(record->Owner);
            return false;
        }
        Fill(record, page, 0);
        _jit->VectorsLoaded = 0;
        Enter(record->Host, _engine!.Common.Enter);
        return true;
    }

    const int MostRoaming = 1 << 20;

    /// <summary>Instructions, by host address, whose checks look into the TLB.</summary>
    readonly HashSet<nuint> _roaming = [];

    /// <summary>By record: all sites' misses until it had missed as often as it is let, last time.</summary>
    readonly Dictionary<nint, ulong> _missed = [];

    /// <summary>A site that finds another page each time is translated anew. False: the block cannot even be
    /// finished.</summary>
    bool LetRoam(ExitRecord* record, ulong rip)
    {
        Translation* block = record->Owner;
        byte* site = SiteOf(record);
        record->Misses = 0;
        if (_untagsLower != 0 || _untagsUpper != 0 || Roams(site) || !MissesOften(record)) return true;
        if (_roaming.Count >= MostRoaming) _roaming.Clear();
        _roaming.Add((nuint)site);
        Drop(block);
        if (record->Host >= block->Entry + Engine.LengthOfWayOut) return true;
        UnpackState(rip);
        return false;
    }

    /// <summary>Where the instruction of a failed check is in host memory.</summary>
    static byte* SiteOf(ExitRecord* record) => record->Owner->Host - record->Owner->Offset + record->Offset;

    /// <summary>A miss costs little in a loop, where all of it is in the caches, and looking into the TLB costs each
    /// execution some; a miss is dear among those of many other sites, so those are the ones that are spared
    /// it.</summary>
    bool MissesOften(ExitRecord* record)
    {
        const ulong others = 32 * ExitRecord.MostMisses;
        bool isKnown = _missed.TryGetValue((nint)record, out ulong last);
        _missed[(nint)record] = _jit->FastMisses;
        return isKnown && _jit->FastMisses - last > others;
    }

    internal bool Roams(byte* site) => _roaming.Contains((nuint)site);

    void Fill(ExitRecord* record, ulong page, ulong addend)
    {
        *record->Slot = new Slot { Tag = page, Addend = addend, Page = page + addend };
        if (record->IsWrite != 0) *StoresTo((nuint)(page + addend)) = 1;
        byte list = (byte)((long)page < 0 ? UpperList : LowerList);
        if ((record->Listed & list) != 0) return;
        record->Listed |= list;
        if (list == LowerList) *_jit->LowerAt++ = (uint)record;
        else *_jit->UpperAt++ = (uint)record;
    }

    /// <summary>RIP and flags as translated code keeps them.</summary>
    void PackState()
    {
        ulong flags = ArithmeticFlags;
        _jit->Flags = (uint)((flags & 0xD5 | 2) << 8 | flags >> 11 & 1);
        _jit->RipBase = RipBaseOf(State->Rip);
    }

    void UnpackState(ulong rip)
    {
        State->Rip = rip;
        uint flags = _jit->Flags;
        ArithmeticFlags = flags >> 8 & 0xD5 | (flags & 1) << 11;
    }

    /// <summary>The x87 registers go to the host's, where they stay while C# runs: it uses none of them.</summary>
    void LoadX87()
    {
        const int x87 = 160;
        byte* area = _jit->X87Area;
        Buffer.MemoryCopy(State->Xsave.Bytes, area, x87, x87);
        // which FXRSTOR loads too; XMM registers are not C#'s across a call
        *(uint*)(area + XsaveArea.Mxcsr) = _jit->HostMxcsr;
        ((delegate* unmanaged<void>)(nint)_engine!.Common.LoadX87)();
        _jit->X87Loaded = 1;
    }

    /// <summary>And back, for instructions of the interpreter, and before the machine looks. The last instruction and
    /// operand are not kept.</summary>
    void StoreX87()
    {
        const int pointers = 6, mxcsr = 24, registers = 32, end = 160;
        if (_jit->X87Loaded == 0) return;
        ((delegate* unmanaged<void>)(nint)_engine!.Common.StoreX87)();
        byte* area = _jit->X87Area;
        new Span<byte>(area + pointers, mxcsr - pointers).Clear();
        Buffer.MemoryCopy(area, State->Xsave.Bytes, mxcsr, mxcsr);
        Buffer.MemoryCopy(area + registers, State->Xsave.Bytes + registers, end - registers, end - registers);
        _jit->X87Loaded = 0;
    }
}
