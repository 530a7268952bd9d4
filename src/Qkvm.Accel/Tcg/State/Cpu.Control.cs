using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Control registers, EFER, XCR0 and debug registers: what may be written, and what follows. Intel SDM vol. 3,
/// sections 2.2.1, 2.5, 2.6, 4.1.2, 4.10.4 and 17.2.</summary>
public sealed unsafe partial class Cpu
{
    const ulong Cr0Writable = Cr0.Pe | Cr0.Mp | Cr0.Em | Cr0.Ts | Cr0.Ne | Cr0.Wp | Cr0.Am | Cr0.Nw | Cr0.Cd | Cr0.Pg;
    const ulong Cr3NoFlush = 1UL << 63;

    const ulong Dr6Writable = 0xE00F, Dr6Fixed = 0xFFFF0FF0, Dr6GeneralDetect = 0x2000;
    const ulong Dr7Writable = 0xFFFF23FF, Dr7Fixed = 0x400, Dr7GeneralDetect = 0x2000;

    internal int Iopl => (int)(State->RflagsSystem >> 12) & 3;

    bool UsesPaePaging(ulong cr0, ulong cr4) =>
        (cr0 & Cr0.Pg) != 0 && (cr4 & Cr4.Pae) != 0 && (State->Efer & Efer.Lme) == 0;

    public void SetCr0(ulong value)
    {
        if (value >> 32 != 0) throw Gp();
        bool paging = (value & Cr0.Pg) != 0;
        if (paging && (value & Cr0.Pe) == 0 || (value & (Cr0.Nw | Cr0.Cd)) == Cr0.Nw) throw Gp();
        value = value & Cr0Writable | Cr0.Et;
        if (paging && (State->Cr0 & Cr0.Pg) == 0)
        {
            if ((State->Efer & Efer.Lme) != 0)
            {
                bool is16BitTask = (State->Tr.Access & Segment.Present) != 0 && (State->Tr.Access & 8) == 0;
                if ((State->Cr4 & Cr4.Pae) == 0 || (State->Cs.Access & Segment.Long) != 0 || is16BitTask) throw Gp();
            }
            else if (UsesPaePaging(value, State->Cr4)) CheckPageDirectoryPointers(State->Cr3);
        }
        else if (!paging && (State->Cr0 & Cr0.Pg) != 0)
        {
            if (Is64Bit || (State->Cr4 & Cr4.Pcide) != 0) throw Gp();
        }
        ApplyCr0(value);
    }

    /// <summary>Without checks.</summary>
    void ApplyCr0(ulong value)
    {
        ulong changed = State->Cr0 ^ value;
        State->Cr0 = value;
        Trace?.Changed(this, "CR0", value);
        if ((changed & Cr0.Pg) != 0)
        {
            bool active = (value & Cr0.Pg) != 0 && (State->Efer & Efer.Lme) != 0;
            State->Efer = active ? State->Efer | Efer.Lma : State->Efer & ~Efer.Lma;
        }
        // PE changes without paging only, where addresses mean the same before and after: boot loaders do it for each
        // BIOS call.
        if ((changed & (Cr0.Pg | Cr0.Wp)) != 0) FlushTlb(true);
        if (changed != 0) ModeChanged();
    }

    public void SetCr3(ulong value)
    {
        bool keep = (State->Cr4 & Cr4.Pcide) != 0 && (value & Cr3NoFlush) != 0;
        if (keep) value &= ~Cr3NoFlush;
        CheckCr3(value);
        ApplyCr3(value, keep);
    }

    void CheckCr3(ulong value)
    {
        ulong lam = HasLam ? Cr3.LamU48 | Cr3.LamU57 : 0;
        if (IsLongMode && (value & ~(_physicalMask | lam)) != 0) throw Gp();
        if (UsesPaePaging(State->Cr0, State->Cr4)) CheckPageDirectoryPointers(value);
    }

    void ApplyCr3(ulong value, bool keep = false)
    {
        _cr3Seen = State->Cr3 = value;
        Trace?.Changed(this, "CR3", value);
        SwitchContext(keep);
        ModeChanged();
    }

    /// <summary>PAE paging loads four pointers with CR3; reserved bits in a present one fault. Section 4.4.1.</summary>
    void CheckPageDirectoryPointers(ulong cr3)
    {
        ulong reserved = ~_physicalMask | 0x1E6;
        for (uint i = 0; i < 4; i++)
        {
            ulong pointer = Memory.Read((cr3 & 0xFFFFFFE0) + i * 8, 8);
            if ((pointer & 1) != 0 && (pointer & reserved) != 0) throw Gp();
        }
    }

    public void SetCr4(ulong value)
    {
        ulong changed = State->Cr4 ^ value;
        if ((value & ~Cr4Supported) != 0) throw Gp();
        if (IsLongMode && ((value & Cr4.Pae) == 0 || (changed & Cr4.La57) != 0)) throw Gp();
        if ((changed & value & Cr4.Pcide) != 0 && (!IsLongMode || (State->Cr3 & 0xFFF) != 0)) throw Gp();
        const ulong reloads = Cr4.Pae | Cr4.Pge | Cr4.Pse | Cr4.Smep;
        if ((changed & reloads) != 0 && UsesPaePaging(State->Cr0, value)) CheckPageDirectoryPointers(State->Cr3);
        State->Cr4 = value;
        const ulong flushes = reloads | Cr4.Smap | Cr4.Pcide | Cr4.La57 | Cr4.Pke | Cr4.Pks | Cr4.LamSup;
        if ((changed & flushes) != 0) FlushTlb(true);
        if (changed != 0) ModeChanged();
    }

    /// <summary>LMA follows LME and CR0.PG and is not written.</summary>
    public void SetEfer(ulong value)
    {
        ulong changed = State->Efer ^ value;
        if ((value & ~(EferWritable | Efer.Lma)) != 0) throw Gp();
        if ((changed & Efer.Lme) != 0 && (State->Cr0 & Cr0.Pg) != 0) throw Gp();
        State->Efer = value & ~Efer.Lma | State->Efer & Efer.Lma;
        if ((changed & Efer.Nx) != 0) FlushTlb(true);
        ModeChanged();
    }

    /// <summary>XSETBV. Intel SDM vol. 1, section 13.3.</summary>
    public void SetXcr0(ulong value)
    {
        const ulong x87 = 1, sse = 2, avx = 4, avx512 = 0xE0;
        if ((value & ~Xcr0Supported) != 0 || (value & x87) == 0 || (value & (sse | avx)) == avx) throw Gp();
        if ((value & avx512) != 0 && (value & (avx512 | avx)) != (avx512 | avx)) throw Gp();
        State->Xcr0 = value;
        ModeChanged();
    }

    /// <summary>The rights that protection keys leave; translations have them built in.</summary>
    public void SetPkru(uint value)
    {
        if (State->Pkru == value) return;
        State->Pkru = value;
        FlushTlb(true);
    }

    /// <summary>MOV from a control register.</summary>
    internal ulong ReadCr(int number) => number switch
    {
        0 => State->Cr0,
        2 => State->Cr2,
        3 => State->Cr3,
        4 => State->Cr4,
        8 when IsGuest && _control.MasksInterrupts => _control.Tpr,
        8 => Apic is { } apic ? apic.Cr8 : _cr8,
        _ => throw Ud(),
    };

    internal void WriteCr(int number, ulong value)
    {
        switch (number)
        {
            case 0: SetCr0(value); break;
            case 2: State->Cr2 = value; break;
            case 3: SetCr3(value); break;
            case 4: SetCr4(value); break;
            case 8:
                if (value > 15) throw Gp();
                if (IsGuest && _control.MasksInterrupts) _control.Tpr = (byte)value;
                else if (Apic is { } apic) apic.Cr8 = (byte)value;
                else _cr8 = (byte)value;
                break;
            default: throw Ud();
        }
    }

    /// <summary>Task priority where there is no local APIC. Not migrated: such machines have one CPU that nobody reads
    /// it from.</summary>
    byte _cr8;

    /// <summary>The register that a number means, after the checks that all MOVs of debug registers share.</summary>
    internal int CheckDebugRegister(int number)
    {
        bool extensions = (State->Cr4 & Cr4.De) != 0;
        if (number > 7 || number is 4 or 5 && extensions) throw Ud();
        if (Cpl != 0) throw Gp();
        if ((State->Dr[7] & Dr7GeneralDetect) != 0)
        {
            State->Dr[6] |= Dr6GeneralDetect;
            State->RflagsSystem |= Flag.Rf;          // a fault: its frame has RF set
            throw Fault(Vector.Debug);
        }
        return number is 4 or 5 ? number + 2 : number;
    }

    internal void WriteDr(int number, ulong value)
    {
        number = CheckDebugRegister(number);
        if (number >= 6 && value >> 32 != 0) throw Gp();
        if (number == 7) WriteDr7(value);
        else if (number == 6) State->Dr[6] = value & Dr6Writable | Dr6Fixed;
        else
        {
            State->Dr[number] = value;
            BreakpointsChanged();
        }
    }

    void WriteDr7(ulong value)
    {
        value = value & Dr7Writable | Dr7Fixed;
        if (State->Dr[7] == value) return;
        State->Dr[7] = value;
        BreakpointsChanged();
    }

    /// <summary>Changes those flags that the mask names.</summary>
    void SetFlags(ulong value, ulong mask) => AllFlags = AllFlags & ~mask | value & mask;
}
