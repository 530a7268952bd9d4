namespace Qkvm.Accel.Tcg;

// SAFETY: arrays of EntryCount entries, freed with the context; indices are masked to them.
/// <summary>Host and guest have TLBs of their own, so that going from one to the other forgets nothing: translated
/// code of the two has different modes, and what its slots know is therefore of one of them alone. What is said to hold
/// for all contexts holds for those of both.</summary>
/// <remarks>A guest's translations are kept as long as it has the same ASID and nested tables, and paging as it was
/// when it was left; section 15.16 would keep them even then.</remarks>
public sealed unsafe partial class Cpu
{
    /// <summary>Of the world that does not run; null before the first VMRUN.</summary>
    List<TlbContext>? _otherContexts;
    TlbContext? _otherContext;
    ulong _otherPaging = ulong.MaxValue, _otherCr3;

    uint _lastAsid;
    ulong _lastNestedCr3;
    bool _lastNested;

    /// <summary>The registers of the other world are loaded; <see cref="ModeChanged"/> follows.</summary>
    void SwitchWorld()
    {
        _otherContexts ??= [new TlbContext()];
        _otherContext ??= _otherContexts[0];
        (_contexts, _otherContexts) = (_otherContexts, _contexts);
        (TlbContext before, _otherContext) = (_otherContext, _context);
        (_pagingSeen, _otherPaging) = (_otherPaging, _pagingSeen);
        (_cr3Seen, _otherCr3) = (_otherCr3, _cr3Seen);
        IsGuest = !IsGuest;
        UseContext(before);
        ModeChanged();
        _context.Identifier = CurrentIdentifier;                   // what it is of has been compared by now
    }

    /// <summary>Before VMRUN: what the guest's TLB holds may be of another guest, or is to go. Section
    /// 15.16.2.</summary>
    void CheckGuestTlb()
    {
        bool isSame = _control.Asid == _lastAsid && _control.NestedPaging == _lastNested
            && _control.NestedCr3 == _lastNestedCr3;
        (_lastAsid, _lastNested, _lastNestedCr3) = (_control.Asid, _control.NestedPaging, _control.NestedCr3);
        if (!isSame || _control.TlbControl != 0) FlushOtherWorld();
    }

    void FlushOtherWorld()
    {
        if (_otherContexts == null) return;
        foreach (TlbContext context in _otherContexts)
        {
            context.Flush(true);
            context.Identifier = TlbContext.NoIdentifier;
        }
        ForgetContext(true);
    }

    /// <summary>INVLPGA. ASID 0 is the host's; a guest's has more forgotten than it must, and another than the last
    /// has no translations.</summary>
    internal void FlushTlbPage(ulong linear, uint asid)
    {
        if (IsGuest) FlushTlb(global: true);                       // a guest that may do so
        else if (asid == 0) FlushTlbPage(linear);
        else if (asid == _lastAsid) FlushOtherWorld();
    }

    void DisposeOtherWorld()
    {
        if (_otherContexts == null) return;
        foreach (TlbContext context in _otherContexts) context.Dispose();
    }
}
