namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Segment registers and descriptor tables. Intel SDM vol. 3, chapters 3 and 5.</summary>
public sealed unsafe partial class Cpu
{
    const ushort RealAccess = Segment.Present | Segment.System | Segment.Writable | Segment.Accessed;
    const ushort Virtual8086Access = RealAccess | 3 << 5;
    internal const ushort FlatAccess = 0x8000 | RealAccess;

    /// <summary>Segments are bases alone: real-address or virtual-8086 mode.</summary>
    bool IsRealAddressing => !IsProtected || IsVirtual8086;

    static bool IsNull(ushort selector) => (selector & 0xFFFC) == 0;

    /// <summary>An exception with a selector for error code. Intel SDM vol. 3, section 6.13.</summary>
    /// <param name="external">Bit EXT.</param>
    GuestFault SelectorFault(int vector, ushort selector, uint external = 0) =>
        Fault(vector, selector & 0xFFFCu | external);

    GuestFault Gp(ushort selector, uint external) => SelectorFault(Vector.GeneralProtection, selector, external);

    /// <summary>Linear addresses have 32 bits outside IA-32e mode.</summary>
    ulong WrapLinear(ulong linear) => IsLongMode ? linear : (uint)linear;

    /// <summary>False: outside its table, or in an LDT that is not there.</summary>
    bool TryReadDescriptor(ushort selector, out Descriptor descriptor)
    {
        ulong start = State->GdtrBase;
        uint limit = State->GdtrLimit;
        if ((selector & 4) != 0)
        {
            if ((State->Ldtr.Access & Segment.Present) == 0) { descriptor = default; return false; }
            (start, limit) = (State->Ldtr.Base, State->Ldtr.Limit);
        }
        uint offset = selector & 0xFFF8u;
        if (offset + 7 > limit) { descriptor = default; return false; }
        ulong address = WrapLinear(start + offset), low = ReadSystem<ulong>(address), high = 0;
        if (IsLongMode && (low & 1UL << 44) == 0 && offset + 15 <= limit) high = ReadSystem<ulong>(address + 8);
        descriptor = new Descriptor(low, high, address);
        return true;
    }

    /// <summary>In IA-32e mode: LDT, TSS and call gate descriptors have sixteen bytes, all inside the table.</summary>
    bool IsWholeSystemDescriptor(ushort selector, in Descriptor descriptor)
    {
        if (!IsLongMode) return true;
        uint limit = (selector & 4) != 0 ? State->Ldtr.Limit : State->GdtrLimit;
        return (selector & 0xFFF8u) + 15 <= limit && descriptor.HasCleanUpperHalf;
    }

    /// <summary>Sets the accessed bit in memory, if it is clear; the access bits for the register.</summary>
    void MarkAccessed(in Descriptor descriptor)
    {
        if ((descriptor.AccessByte & Segment.Accessed) == 0)
            WriteSystem<byte>(descriptor.Address + 5, (byte)(descriptor.AccessByte | Segment.Accessed));
    }

    /// <summary>A descriptor whose accessed bit <see cref="MarkAccessed"/> has seen to becomes a segment
    /// register.</summary>
    void SetSegment(int segment, ushort selector, in Descriptor descriptor)
    {
        ref Segment register = ref State->Segment(segment);
        register = descriptor.ToSegment(selector);
        register.Access |= Segment.Accessed;
    }

    void SetFlatSegment(int segment, ushort selector, ushort access) =>
        State->Segment(segment) = new Segment { Limit = uint.MaxValue, Access = access, Selector = selector };

    /// <summary>An unusable segment. FS and GS keep their bases only where a return to an outer ring empties
    /// them.</summary>
    void SetNullSegment(int segment, ushort selector) => State->Segment(segment) = new Segment { Selector = selector };

    /// <summary>Limit and rights stay as they are in real-address mode ("unreal" mode lives on that).</summary>
    void SetRealSegment(int segment, ushort selector)
    {
        ref Segment register = ref State->Segment(segment);
        (register.Selector, register.Base) = (selector, (ulong)selector << 4);
        if (IsVirtual8086) (register.Limit, register.Access) = (0xFFFF, Virtual8086Access);
        else if ((register.Access & Segment.Present) == 0) (register.Limit, register.Access) = (0xFFFF, RealAccess);
    }

    /// <summary>MOV, POP and LxS to a segment register other than CS, with all checks, in every mode.</summary>
    public void LoadSegment(int segment, ushort selector)
    {
        if (IsRealAddressing) { SetRealSegment(segment, selector); return; }
        int rpl = selector & 3;
        if (IsNull(selector))
        {
            if (segment == Seg.Ss && (!Is64Bit || Cpl == 3 || rpl != Cpl)) throw Gp();
            SetNullSegment(segment, selector);
            return;
        }
        if (!TryReadDescriptor(selector, out Descriptor descriptor)) throw Gp(selector, 0);
        if (segment == Seg.Ss)
        {
            if (rpl != Cpl || !descriptor.IsWritableData || descriptor.Dpl != Cpl) throw Gp(selector, 0);
            if (!descriptor.IsPresent) throw SelectorFault(Vector.StackFault, selector);
        }
        else
        {
            if (!descriptor.IsReadable) throw Gp(selector, 0);
            if (!descriptor.IsConforming && descriptor.Dpl < Math.Max(rpl, Cpl)) throw Gp(selector, 0);
            if (!descriptor.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        }
        MarkAccessed(descriptor);
        SetSegment(segment, selector, descriptor);
    }

    /// <summary>After a return to an outer ring: data segments that it may not use become null.</summary>
    void DropInnerSegments()
    {
        for (int segment = Seg.Es; segment <= Seg.Gs; segment++)
        {
            if (segment is Seg.Cs or Seg.Ss) continue;
            ref Segment register = ref State->Segment(segment);
            bool conforming = (register.Access & (Segment.Code | 4)) == (Segment.Code | 4);
            if (conforming || (register.Access >> 5 & 3) >= Cpl) continue;
            (register.Selector, register.Access) = (0, 0);         // bases of FS and GS survive in 64-bit mode
        }
    }

    public void LoadLdt(ushort selector)
    {
        if (IsNull(selector)) { State->Ldtr = new Segment { Selector = selector }; return; }
        if ((selector & 4) != 0 || !TryReadDescriptor(selector, out Descriptor descriptor)) throw Gp(selector, 0);
        if (descriptor.SystemType != Descriptor.Ldt || !IsWholeSystemDescriptor(selector, descriptor))
            throw Gp(selector, 0);
        if (!descriptor.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        if (!IsCanonicalBase(descriptor.Base)) throw Gp(selector, 0);
        State->Ldtr = descriptor.ToSegment(selector);
    }

    public void LoadTaskRegister(ushort selector)
    {
        if (IsNull(selector)) throw Gp();
        if ((selector & 4) != 0 || !TryReadDescriptor(selector, out Descriptor descriptor)) throw Gp(selector, 0);
        bool available = descriptor.SystemType == Descriptor.Tss32 || descriptor.SystemType == Descriptor.Tss16
            && !IsLongMode;
        if (!available || !IsWholeSystemDescriptor(selector, descriptor)) throw Gp(selector, 0);
        if (!descriptor.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        if (!IsCanonicalBase(descriptor.Base)) throw Gp(selector, 0);
        WriteSystem<byte>(descriptor.Address + 5, (byte)(descriptor.AccessByte | Descriptor.Busy));
        State->Tr = descriptor.ToSegment(selector);
        State->Tr.Access |= Descriptor.Busy;
    }

    /// <summary>LAR and LSL: whether the descriptor may be looked at. Tables in Intel SDM vol. 2, LAR and
    /// LSL.</summary>
    internal bool TryInspect(ushort selector, bool limit, out Descriptor descriptor)
    {
        descriptor = default;
        if (IsNull(selector) || !TryReadDescriptor(selector, out descriptor)) return false;
        if (!descriptor.IsConforming && descriptor.Dpl < Math.Max(selector & 3, Cpl)) return false;
        if (descriptor.IsSegment) return true;
        bool valid = descriptor.Type switch
        {
            Descriptor.Ldt or Descriptor.Tss32 or Descriptor.Tss32Busy => true,
            Descriptor.Tss16 or Descriptor.Tss16Busy => !IsLongMode,
            Descriptor.CallGate32 => !limit,
            Descriptor.CallGate16 or Descriptor.TaskGate => !limit && !IsLongMode,
            _ => false,
        };
        return valid && IsWholeSystemDescriptor(selector, descriptor);
    }

    /// <summary>VERR and VERW.</summary>
    internal bool CanAccess(ushort selector, bool write)
    {
        if (IsNull(selector) || !TryReadDescriptor(selector, out Descriptor descriptor)) return false;
        if (write ? !descriptor.IsWritableData : !descriptor.IsReadable) return false;
        return descriptor.IsConforming || descriptor.Dpl >= Math.Max(selector & 3, Cpl);
    }
}
