namespace Qkvm.Accel.Tcg;

/// <summary>Why a guest was left. Spec: AMD64 APM vol. 2, appendix C. The lower ones are the numbers of the VMCB's
/// intercept bits, too.</summary>
static class SvmExit
{
    public const uint ReadCr0 = 0, WriteCr0 = 0x10, ReadDr0 = 0x20, WriteDr0 = 0x30, Exception = 0x40, Interrupt = 0x60,
        Nmi = 0x61, Smi = 0x62, Init = 0x63, VirtualInterrupt = 0x64, WriteCr0Selective = 0x65, ReadIdtr = 0x66,
        ReadGdtr = 0x67, ReadLdtr = 0x68, ReadTr = 0x69, WriteIdtr = 0x6A, WriteGdtr = 0x6B, WriteLdtr = 0x6C,
        WriteTr = 0x6D, Rdtsc = 0x6E, Rdpmc = 0x6F, Pushf = 0x70, Popf = 0x71, Cpuid = 0x72, Rsm = 0x73, Iret = 0x74,
        SoftwareInterrupt = 0x75, Invd = 0x76, Pause = 0x77, Hlt = 0x78, Invlpg = 0x79, Invlpga = 0x7A, Ports = 0x7B,
        Msr = 0x7C, TaskSwitch = 0x7D, FerrFreeze = 0x7E, Shutdown = 0x7F, Vmrun = 0x80, Vmmcall = 0x81, Vmload = 0x82,
        Vmsave = 0x83, Stgi = 0x84, Clgi = 0x85, Skinit = 0x86, Rdtscp = 0x87, Icebp = 0x88, Wbinvd = 0x89,
        Monitor = 0x8A, Mwait = 0x8B, MwaitArmed = 0x8C, Xsetbv = 0x8D, WroteEfer = 0x8F, WroteCr0 = 0x90,
        Invpcid = 0xA2, NestedPageFault = 0x400;

    public const ulong Invalid = ulong.MaxValue;

    /// <summary>EXITINFO1 of a nested page fault, beside the error code: the guest's own address, or one of its page
    /// tables. Section 15.25.6.</summary>
    public const ulong FinalAddress = 1UL << 32, TableAddress = 1UL << 33;

    /// <summary>EXITINFO1 of a MOV to or from a control register: the general register's number is there. Section
    /// 15.8.1.</summary>
    public const ulong HasRegister = 1UL << 63;
}

/// <summary>EVENTINJ and EXITINTINFO. Section 15.20.</summary>
readonly record struct SvmEvent(ulong Value)
{
    public const int Interrupt = 0, Nmi = 2, Exception = 3, Software = 4;

    const ulong Valid = 1UL << 31, HasError = 1UL << 11;

    public SvmEvent(int vector, int type, uint? error)
        : this((ulong)(uint)vector | (ulong)type << 8 | Valid | (error is { } code ? HasError | (ulong)code << 32 : 0))
    {
    }

    public bool IsValid => (Value & Valid) != 0;
    public int Vector => (byte)Value;
    public int Type => (int)(Value >> 8) & 7;
    public uint? Error => (Value & HasError) != 0 ? (uint)(Value >> 32) : null;

    /// <summary>There is such an event: exceptions have 32 vectors, of which NMI's is none.</summary>
    public bool IsLegal => Type switch
    {
        Exception => Vector < 32 && Vector != Tcg.Vector.Nmi,
        Interrupt or Nmi or Software => true,
        _ => false,
    };
}
