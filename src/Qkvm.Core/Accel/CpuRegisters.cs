using Qkvm.Core.State;

namespace Qkvm.Core.Accel;

/// <summary>A segment register with its hidden part. Intel SDM vol. 3, section 3.4.3.</summary>
public struct SegmentRegister
{
    public const ushort Accessed = 1, Writable = 2, ExpandDown = 4, Code = 8, System = 0x10, Present = 0x80,
        Long = 0x2000, Big = 0x4000;

    public ulong Base;

    /// <summary>The last valid offset, granularity applied.</summary>
    public uint Limit;

    /// <summary>Descriptor bits 40 to 55: type 3..0, S 4, DPL 6..5, P 7, AVL 12, L 13, D/B 14, G 15. 0:
    /// unusable.</summary>
    public ushort Access;
    public ushort Selector;
}

public struct DescriptorTable
{
    public ulong Base;
    public uint Limit;
}

/// <summary>All registers of one vCPU, whatever runs it: what saved states, debuggers and `info registers` read and
/// write.</summary>
/// <remarks>A copy, filled by <see cref="IVCpu.ReadRegisters"/> and put back by <see cref="IVCpu.WriteRegisters"/>. The
/// local APIC is a device of its own, but for its base.</remarks>
public sealed class CpuRegisters
{
    public const int Es = 0, Cs = 1, Ss = 2, Ds = 3, Fs = 4, Gs = 5, Ldtr = 6, Tr = 7;

    /// <summary>Offsets in <see cref="Xsave"/>. Intel SDM vol. 1, section 13.4 and 13.5.</summary>
    public const int Fcw = 0, Fsw = 2, Ftw = 4, Mxcsr = 24, St0 = 32, Xmm0 = 160, YmmHigh0 = 576, Opmask0 = 1088,
        ZmmHigh0 = 1152, Zmm16 = 1664, XsaveAvx512End = 2688;

    static readonly string[] GeneralNames =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    static readonly string[] SegmentNames = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];

    /// <summary>RAX RCX RDX RBX RSP RBP RSI RDI R8 … R15.</summary>
    public readonly ulong[] General = new ulong[16];
    public ulong Rip, Rflags;

    /// <summary>ES CS SS DS FS GS LDTR TR.</summary>
    public readonly SegmentRegister[] Segments = new SegmentRegister[8];
    public DescriptorTable Gdtr, Idtr;

    public ulong Cr0, Cr2, Cr3, Cr4, Cr8, Xcr0, Efer, ApicBase;

    /// <summary>DR0 to DR3, DR6, DR7; 4 and 5 do not exist.</summary>
    public readonly ulong[] Debug = new ulong[8];

    /// <summary>The guest's time stamp counter when it was read.</summary>
    public ulong Tsc;
    public uint Pkru;

    /// <summary>Other model-specific registers, by number: those that the accelerator has.</summary>
    public readonly SortedDictionary<uint, ulong> Msrs = [];

    /// <summary>x87, MXCSR, vector and mask registers in the standard format of XSAVE.</summary>
    public byte[] Xsave = [];

    // What no register shows
    public int Cpl;
    public bool IsHalted, WaitsForSipi, NmiBlocked, NmiPending, A20Masked;

    /// <summary>In system management mode, whose memory begins at <see cref="SmBase"/>; and whether NMIs were blocked
    /// before.</summary>
    public bool InSmm, BlocksNmiAfterSmm;
    public uint SmBase = DefaultSmBase;

    /// <summary>After power-on.</summary>
    public const uint DefaultSmBase = 0x30000;

    /// <summary>Interrupts are held off for one instruction: bit 0 by STI, bit 1 by a load of SS.</summary>
    public byte InterruptShadow;

    const ulong ProtectionEnable = 1, LongModeActive = 1 << 10;

    public bool IsProtected => (Cr0 & ProtectionEnable) != 0;
    public bool IsLongMode => (Efer & LongModeActive) != 0;
    public bool Is64Bit => IsLongMode && (Segments[Cs].Access & SegmentRegister.Long) != 0;

    /// <summary>Each register once.</summary>
    public void Exchange(StateStream state)
    {
        for (int i = 0; i < General.Length; i++) state.Field(GeneralNames[i], ref General[i]);
        state.Field("rip", ref Rip);
        state.Field("rflags", ref Rflags);
        for (int i = 0; i < Segments.Length; i++) Exchange(state.Group(SegmentNames[i]), ref Segments[i]);
        Exchange(state.Group("gdtr"), ref Gdtr);
        Exchange(state.Group("idtr"), ref Idtr);
        state.Field("cr0", ref Cr0);
        state.Field("cr2", ref Cr2);
        state.Field("cr3", ref Cr3);
        state.Field("cr4", ref Cr4);
        state.Field("cr8", ref Cr8);
        state.Field("xcr0", ref Xcr0);
        state.Field("efer", ref Efer);
        state.Field("apic-base", ref ApicBase);
        for (int i = 0; i < Debug.Length; i++)
            if (i is not (4 or 5)) state.Field($"dr{i}", ref Debug[i]);
        state.Field("tsc", ref Tsc);
        state.Field("pkru", ref Pkru);
        StateStream msrs = state.Group("msr");
        foreach (uint index in Msrs.Keys.ToArray())
        {
            ulong value = Msrs[index];
            msrs.Field($"{index:x}", ref value);
            Msrs[index] = value;
        }
        state.Block("xsave", Xsave);
        state.Field("cpl", ref Cpl, 0, 3);
        state.Field("halted", ref IsHalted);
        state.Field("waits-for-sipi", ref WaitsForSipi);
        state.Field("nmi-blocked", ref NmiBlocked);
        state.Field("nmi-pending", ref NmiPending);
        state.Field("a20-masked", ref A20Masked);
        state.Field("interrupt-shadow", ref InterruptShadow);
        state.Field("smm", ref InSmm);
        state.Field("smm-nmi-blocked", ref BlocksNmiAfterSmm);
        state.Field("smbase", ref SmBase);
    }

    static void Exchange(StateStream state, ref SegmentRegister segment)
    {
        state.Field("selector", ref segment.Selector);
        state.Field("base", ref segment.Base);
        state.Field("limit", ref segment.Limit);
        state.Field("access", ref segment.Access);
    }

    static void Exchange(StateStream state, ref DescriptorTable table)
    {
        state.Field("base", ref table.Base);
        state.Field("limit", ref table.Limit);
    }
}
