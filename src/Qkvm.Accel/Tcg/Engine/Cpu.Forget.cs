using Qkvm.Accel.Tcg.Translator;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg;

// SAFETY: translations, records and slots lie in the vCPU's CodeRegion; all are forgotten before their room is used
// again.
/// <summary>What translated code knows of addresses, and how it is made to forget it.</summary>
public sealed unsafe partial class Cpu
{
    // Of ExitRecord.Listed.
    const byte LowerList = 1, UpperList = 2;

    uint* _lower, _upper;
    readonly List<nint> _lowerJumps = [], _upperJumps = [], _lowerReturns = [], _upperReturns = [];

    /// <summary>No translation of the lower half of the address space holds any more, in data or in code. Outside
    /// 64-bit mode that is all there is.</summary>
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

    /// <summary>An entry of a jump table is about to be filled; it is listed already if what it holds is of the same
    /// half.</summary>
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
            if ((((JumpEntry*)jump)->Target & ~PageMask) == page)
                ((JumpEntry*)jump)->Target = isUpper ? JumpEntry.NoneUpper : JumpEntry.NoneLower;
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
    byte* StoresTo(nuint hostPage) =>
        _jit->StorePages + (hostPage >> GuestRam.PageShift & JitState.StorePagesCount - 1);

    static void ForgetStore(ExitRecord* record, nuint hostPage)
    {
        if (record->IsWrite != 0 && record->Slot->Tag + record->Slot->Addend == hostPage)
            record->Slot->Tag = Slot.Empty;
    }
}
