using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// MXCSR, and saving and restoring all of it. Intel SDM vol. 1, sections 10.5 and 13.7 to 13.12.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const ulong X87State = 1, SseState = 2, AvxState = 4, PkruState = 1 << 9;
    const uint MxcsrInitial = 0x1F80, MxcsrMisaligned = 1 << 17;
    const ushort ControlInitial = 0x37F;
    const int LegacySize = 512, XsaveHeaderSize = 64, CompactedBit = 63;

    // Of Insn.Reg2.
    const byte WidePointers = 1, Optimized = 2, Compacted = 4, Supervisor = 8;

    static Handler SelectState(in Instruction x, Insn* i)
    {
        byte forms = 0;
        switch (x.Mnemonic)
        {
            case Mnemonic.Ldmxcsr: return &LoadMxcsr<SseFamily>;
            case Mnemonic.Vldmxcsr: return &LoadMxcsr<AvxFamily>;
            case Mnemonic.Stmxcsr: return &StoreMxcsr<SseFamily>;
            case Mnemonic.Vstmxcsr: return &StoreMxcsr<AvxFamily>;
            case Mnemonic.Fxsave: i->Reg2 = 0; return &Fxsave;
            case Mnemonic.Fxsave64: i->Reg2 = WidePointers; return &Fxsave;
            case Mnemonic.Fxrstor: i->Reg2 = 0; return &Fxrstor;
            case Mnemonic.Fxrstor64: i->Reg2 = WidePointers; return &Fxrstor;
            case Mnemonic.Xsave: break;
            case Mnemonic.Xsave64: forms = WidePointers; break;
            case Mnemonic.Xsaveopt: forms = Optimized; break;
            case Mnemonic.Xsaveopt64: forms = Optimized | WidePointers; break;
            case Mnemonic.Xsavec: forms = Optimized | Compacted; break;
            case Mnemonic.Xsavec64: forms = Optimized | Compacted | WidePointers; break;
            case Mnemonic.Xsaves: forms = Optimized | Compacted | Supervisor; break;
            case Mnemonic.Xsaves64: forms = Optimized | Compacted | Supervisor | WidePointers; break;
            case Mnemonic.Xrstor: return SelectRestore(i, 0);
            case Mnemonic.Xrstor64: return SelectRestore(i, WidePointers);
            case Mnemonic.Xrstors: return SelectRestore(i, Supervisor);
            case Mnemonic.Xrstors64: return SelectRestore(i, Supervisor | WidePointers);
            default: return null;
        }
        i->Reg2 = forms;
        return &Xsave;
    }

    static Handler SelectRestore(Insn* i, byte forms)
    {
        i->Reg2 = forms;
        return &Xrstor;
    }

    static ref uint Mxcsr(Cpu cpu) => ref *(uint*)(cpu.State->Xsave.Bytes + XsaveArea.Mxcsr);

    static void LoadMxcsr<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        TFamily.Check(cpu);
        uint value = cpu.Load<uint>(i);
        if ((value & ~cpu.MxcsrValid) != 0) throw cpu.Gp();
        Mxcsr(cpu) = value;
    }

    static void StoreMxcsr<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        TFamily.Check(cpu);
        cpu.Store(i, Mxcsr(cpu));
    }

    /// <summary>Bytes 416 to 511 are left alone, as are XMM8 to 15 outside 64-bit mode.</summary>
    static void Fxsave(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        ulong linear = AlignedArea(cpu, i, LegacySize, 16, write: true);
        byte* image = stackalloc byte[LegacySize];
        MakeLegacy(cpu, i, image);
        cpu.WriteBytes(linear, new ReadOnlySpan<byte>(image, XsaveArea.Xmm0
            + (SkipsVectors(cpu) ? 0 : RegisterCount(cpu) * 16)));
    }

    static void Fxrstor(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        ulong linear = AlignedArea(cpu, i, LegacySize, 16, write: false);
        byte* image = stackalloc byte[LegacySize];
        cpu.ReadBytes(linear, new Span<byte>(image, LegacySize));
        uint mxcsr = *(uint*)(image + XsaveArea.Mxcsr);
        if ((mxcsr & ~cpu.MxcsrValid) != 0) throw cpu.Gp();
        Mxcsr(cpu) = mxcsr;
        RestoreX87(cpu, i, image);
        if (SkipsVectors(cpu)) return;
        CopyRegisters(cpu, image + XsaveArea.Xmm0, cpu.State->Xsave.Bytes + XsaveArea.Xmm0);
    }

    /// <summary>EFER.FFXSR: an operating system's FXSAVE and FXRSTOR leave the XMM registers alone. AMD APM vol. 2,
    /// section 3.1.7.</summary>
    static bool SkipsVectors(Cpu cpu) => (cpu.State->Efer & Efer.Ffxsr) != 0 && cpu.Is64Bit && cpu.Cpl == 0;

    static ulong AlignedArea(Cpu cpu, Insn* i, int size, ulong alignment, bool write)
    {
        ulong linear = cpu.VectorLinear(i, size, write);
        if ((linear & alignment - 1) != 0) throw cpu.Gp();
        return linear;
    }

    static void CopyRegisters(Cpu cpu, byte* from, byte* to) =>
        Buffer.MemoryCopy(from, to, 256, RegisterCount(cpu) * 16);

    /// <summary>The FXSAVE image; without REX.W the pointers are 32 bits with selectors, which read as 0.</summary>
    static void MakeLegacy(Cpu cpu, Insn* i, byte* image)
    {
        Buffer.MemoryCopy(cpu.State->Xsave.Bytes, image, LegacySize, LegacySize);
        *(uint*)(image + XsaveArea.MxcsrMask) = cpu.MxcsrValid;
        if ((i->Reg2 & WidePointers) == 0)
            *(uint*)(image + InstructionPointerAt + 4) = *(uint*)(image + DataPointerAt + 4) = 0;
    }

    static void RestoreX87(Cpu cpu, Insn* i, byte* image)
    {
        byte* area = cpu.State->Xsave.Bytes;
        Buffer.MemoryCopy(image, area, XsaveArea.Mxcsr, XsaveArea.Mxcsr);
        if ((i->Reg2 & WidePointers) == 0)
            *(uint*)(area + InstructionPointerAt + 4) = *(uint*)(area + DataPointerAt + 4) = 0;
        area[XsaveArea.Ftw + 1] = 0;
        for (int n = 0; n < 8; n++)
        {
            byte* from = image + XsaveArea.St0 + n * 16, to = area + XsaveArea.St0 + n * 16;
            *(ulong*)to = *(ulong*)from;
            *(ulong*)(to + 8) = *(ushort*)(from + 8);
        }
        SetControl(cpu, *(ushort*)image);
    }

    static void ClearX87(Cpu cpu)
    {
        byte* area = cpu.State->Xsave.Bytes;
        new Span<byte>(area, XsaveArea.Mxcsr).Clear();
        new Span<byte>(area + XsaveArea.St0, 128).Clear();
        *(ushort*)area = ControlInitial;
    }

    static void CheckXsave(Cpu cpu, Insn* i)
    {
        if ((cpu.State->Cr4 & Cr4.Osxsave) == 0) throw cpu.Ud();
        if ((cpu.State->Cr0 & Cr0.Ts) != 0) throw cpu.Fault(Vector.DeviceNotAvailable);
        if ((i->Reg2 & Supervisor) != 0 && cpu.Cpl != 0) throw cpu.Gp();
    }

    static ulong AskedComponents(Cpu cpu) => ((ulong)(uint)cpu.Rdx << 32 | (uint)cpu.Rax) & cpu.State->Xcr0;

    /// <summary>XSAVE, XSAVEOPT (which here writes whatever is in use), XSAVEC and XSAVES.</summary>
    static void Xsave(Cpu cpu, Insn* i)
    {
        CheckXsave(cpu, i);
        bool isCompacted = (i->Reg2 & Compacted) != 0;
        ulong asked = AskedComponents(cpu), inUse = ComponentsInUse(cpu);
        int size = LegacySize + XsaveHeaderSize, registers = RegisterCount(cpu) * 16;
        ulong linear = AlignedArea(cpu, i, size, 64, write: true);
        if (isCompacted && Mxcsr(cpu) != MxcsrInitial) inUse |= SseState;
        ulong written = (i->Reg2 & Optimized) != 0 ? asked & inUse : asked;
        cpu.ProbeWrite(linear, size);
        ulong header = inUse & asked;
        if (!isCompacted) header |= cpu.ReadLinear<ulong>(linear + LegacySize) & ~asked;

        byte* image = stackalloc byte[LegacySize];
        MakeLegacy(cpu, i, image);
        SaveComponents(cpu, linear, written, isCompacted, asked);
        if ((written & X87State) != 0)
        {
            cpu.WriteBytes(linear, new ReadOnlySpan<byte>(image, XsaveArea.Mxcsr));
            cpu.WriteBytes(linear + XsaveArea.St0, new ReadOnlySpan<byte>(image + XsaveArea.St0, 128));
        }
        if ((written & SseState) != 0)
            cpu.WriteBytes(linear + XsaveArea.Xmm0, new ReadOnlySpan<byte>(image + XsaveArea.Xmm0, registers));
        if (isCompacted ? (written & SseState) != 0 : (asked & (SseState | AvxState)) != 0)
            cpu.WriteLinear(linear + XsaveArea.Mxcsr, *(ulong*)(image + XsaveArea.Mxcsr));
        cpu.WriteLinear(linear + LegacySize, header);
        if (isCompacted) cpu.WriteLinear(linear + LegacySize + 8, asked | 1UL << CompactedBit);
    }

    static void Xrstor(Cpu cpu, Insn* i)
    {
        CheckXsave(cpu, i);
        ulong asked = AskedComponents(cpu);
        int size = LegacySize + XsaveHeaderSize, registers = RegisterCount(cpu) * 16;
        ulong linear = AlignedArea(cpu, i, size, 64, write: false);
        byte* image = stackalloc byte[(asked & Avx512States) != 0 ? sizeof(XsaveArea) : XsaveArea.YmmHigh0 + 256];
        cpu.ReadBytes(linear, new Span<byte>(image, size));
        ulong present = *(ulong*)(image + LegacySize), format = *(ulong*)(image + LegacySize + 8);
        bool isCompacted = format >> CompactedBit != 0;
        CheckHeader(cpu, i, image + LegacySize, present, format);
        ulong restored = asked & present, cleared = asked & ~present;

        bool loadsMxcsr = isCompacted ? (restored & SseState) != 0 : (asked & (SseState | AvxState)) != 0;
        uint mxcsr = loadsMxcsr ? *(uint*)(image + XsaveArea.Mxcsr) : MxcsrInitial;
        if ((mxcsr & ~cpu.MxcsrValid) != 0) throw cpu.Gp();
        ReadComponents(cpu, linear, restored, isCompacted, format, image);

        if ((asked & PkruState) != 0)
            cpu.SetPkru((restored & PkruState) != 0
                ? (uint)cpu.ReadLinear<ulong>(linear + PlaceOf(PkruState, isCompacted, format)) : 0);
        byte* area = cpu.State->Xsave.Bytes;
        if (loadsMxcsr || (asked & SseState) != 0) Mxcsr(cpu) = mxcsr;
        if ((restored & X87State) != 0) RestoreX87(cpu, i, image);
        if ((cleared & X87State) != 0) ClearX87(cpu);
        if ((restored & SseState) != 0) CopyRegisters(cpu, image + XsaveArea.Xmm0, area + XsaveArea.Xmm0);
        if ((cleared & SseState) != 0) new Span<byte>(area + XsaveArea.Xmm0, registers).Clear();
        TakeComponents(cpu, restored, cleared, image);
    }

    /// <summary>Intel SDM vol. 1, section 13.8: what raises #GP.</summary>
    static void CheckHeader(Cpu cpu, Insn* i, byte* header, ulong present, ulong format)
    {
        const int standardReserved = 24, reservedFrom = 16;
        bool isCompacted = format >> CompactedBit != 0;
        if (isCompacted)
        {
            ulong components = format & ~(1UL << CompactedBit);
            if (!cpu.HasXsavec || (components & ~cpu.State->Xcr0) != 0 || (present & ~components) != 0
                || IsAnySet(header + reservedFrom, XsaveHeaderSize - reservedFrom)) throw cpu.Gp();
        }
        else if ((i->Reg2 & Supervisor) != 0 || format != 0 || (present & ~cpu.State->Xcr0) != 0
            || IsAnySet(header + reservedFrom, standardReserved - reservedFrom)) throw cpu.Gp();
    }
}
