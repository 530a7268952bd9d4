using System.Runtime.InteropServices;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: the kernel reads and writes what it is given during the call, and no longer.
/// <summary>The kernel's interface: request numbers and structures of Documentation/virt/kvm/api.rst, x86-64.</summary>
static unsafe class KvmApi
{
    public const int Version = 12;

    // On /dev/kvm
    public const uint GetApiVersion = 0xAE00, CreateVm = 0xAE01, CheckExtension = 0xAE03, GetVCpuMmapSize = 0xAE04,
        GetSupportedCpuid = 0xC008AE05, GetSupportedHyperVCpuid = 0xC008AEC1;

    // On a machine
    public const uint CreateVCpu = 0xAE41, SetUserMemoryRegion = 0x4020AE46, SetTssAddress = 0xAE47,
        SetIdentityMapAddress = 0x4008AE48, CreateIrqChip = 0xAE60, IrqLine = 0x4008AE61, GetIrqChip = 0xC208AE62,
        SetIrqChip = 0x8208AE63, SignalMsi = 0x4020AEA5, IoEventFd = 0x4040AE79, SetClock = 0x4030AE7B,
        GetClock = 0x8030AE7C, GetDirtyLog = 0x4010AE42, SetGsiRouting = 0x4008AE6A,
        EnableMachineCapability = 0x4068AEA3, GetStatistics = 0xAECE, RegisterCoalesced = 0x4010AE67,
        UnregisterCoalesced = 0x4010AE68, SetMsrFilter = 0x4188AEC6;

    // On a vCPU
    public const uint Run = 0xAE80, GetRegs = 0x8090AE81, SetRegs = 0x4090AE82, GetSregs = 0x8138AE83,
        SetSregs = 0x4138AE84, Translate = 0xC018AE85, GetMsrs = 0xC008AE88, SetMsrs = 0x4008AE89,
        GetLapic = 0x8400AE8E, SetLapic = 0x4400AE8F, SetCpuid2 = 0x4008AE90, GetMpState = 0x8004AE98,
        SetMpState = 0x4004AE99, Nmi = 0xAE9A, GetVCpuEvents = 0x8040AE9F, SetVCpuEvents = 0x4040AEA0,
        GetDebugRegs = 0x8080AEA1, SetDebugRegs = 0x4080AEA2, GetTscKhz = 0xAEA3, GetXsave = 0x9000AEA4,
        SetXsave = 0x5000AEA5, GetXcrs = 0x8188AEA6, SetXcrs = 0x4188AEA7, SetGuestDebug = 0x4048AE9B,
        Smi = 0xAEB7, EnableCapability = 0x4068AEA3, Interrupt = 0x4004AE86, SetTscKhz = 0xAEA2, ClockControl = 0xAEAD;

    public const int ExtensionIrqChip = 0, ExtensionUserMemory = 3, ExtensionReadOnlyMemory = 81,
        ExtensionImmediateExit = 136, ExtensionTscDeadline = 72, ExtensionIoEventFdAnyLength = 122,
        ExtensionSetGuestDebug2 = 195, ExtensionSmm = 117, ExtensionMultiAddressSpace = 118,
        ExtensionHyperVSynIc2 = 148, ExtensionSystemHyperVCpuid = 191, ExtensionSplitIrqChip = 121,
        ExtensionX2ApicApi = 129, ExtensionMaxVCpus = 66, ExtensionTscControl = 60, ExtensionStatistics = 203,
        ExtensionCoalescedMmio = 15, ExtensionMaxVCpuId = 128, ExtensionUserSpaceMsr = 188, ExtensionMsrFilter = 189;

    public static int Call(int fd, uint request, nint argument, string what)
    {
        int result = Libc.ioctl(fd, request, argument);
        return result >= 0 ? result : throw new HostException($"-accel kvm: {what}", Libc.Errno);
    }

    public static int Call(int fd, uint request, void* argument, string what) =>
        Call(fd, request, (nint)argument, what);
}

[StructLayout(LayoutKind.Sequential)]
struct KvmMemoryRegion
{
    public const uint LogDirtyPages = 1, ReadOnly = 2;
    public uint Slot, Flags;
    public ulong GuestAddress, Size, HostAddress;
}

/// <summary>struct kvm_dirty_log: a bit a page, in whole 64-bit words.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmDirtyLog
{
    public uint Slot, Padding;
    public ulong* Bitmap;
}

/// <summary>struct kvm_enable_cap.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmCapability
{
    public uint Capability, Flags;
    public fixed ulong Arguments[4];
    public fixed byte Pad[64];
}

[StructLayout(LayoutKind.Sequential)]
struct KvmIrqLevel
{
    public uint Irq, Level;
}

/// <summary>struct kvm_ioeventfd.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmIoEvent
{
    public ulong Value, Address;
    public int Length, Fd;
    public uint Flags;
    public fixed byte Pad[36];
}

[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmMsi
{
    public uint AddressLow, AddressHigh, Data, Flags;
    public fixed byte Pad[16];
}

/// <summary>struct kvm_irq_routing_entry, of a message.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmRoute
{
    public const uint Message = 2;
    public uint Gsi, Type, Flags, Pad, AddressLow, AddressHigh, Data;
    public fixed uint Rest[5];
}

/// <summary>struct kvm_irqchip: which chip, and its registers.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmIrqChipState
{
    public uint Chip, Pad;
    public fixed byte Registers[512];
}

/// <summary>struct kvm_regs: RAX RBX RCX RDX RSI RDI RSP RBP R8 … R15 RIP RFLAGS.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmRegs
{
    public ulong Rax, Rbx, Rcx, Rdx, Rsi, Rdi, Rsp, Rbp;
    public fixed ulong High[8];
    public ulong Rip, Rflags;
}

[StructLayout(LayoutKind.Sequential)]
struct KvmSegment
{
    public ulong Base;
    public uint Limit;
    public ushort Selector;
    public byte Type, Present, Dpl, Db, S, L, G, Avl, Unusable, Padding;
}

[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmTable
{
    public ulong Base;
    public ushort Limit;
    public fixed ushort Padding[3];
}

[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmSregs
{
    public KvmSegment Cs, Ds, Es, Fs, Gs, Ss, Tr, Ldt;
    public KvmTable Gdt, Idt;
    public ulong Cr0, Cr2, Cr3, Cr4, Cr8, Efer, ApicBase;
    public fixed ulong InterruptBitmap[4];
}

[StructLayout(LayoutKind.Sequential)]
struct KvmTranslation
{
    public ulong LinearAddress, PhysicalAddress;
    public byte Valid, Writeable, UserMode;
    public uint Pad;
    public byte Pad2;
}

/// <summary>What is used of struct kvm_vcpu_events.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
struct KvmEvents
{
    [FieldOffset(12)] public byte NmiInjected;
    [FieldOffset(13)] public byte NmiPending;
    [FieldOffset(14)] public byte NmiMasked;
    [FieldOffset(25)] public byte SmiPending;
}

[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmCpuidEntry
{
    public uint Function, Index, Flags, Eax, Ebx, Ecx, Edx;
    public fixed uint Padding[3];
}

[StructLayout(LayoutKind.Sequential)]
struct KvmMsrEntry
{
    public uint Index, Reserved;
    public ulong Data;
}

/// <summary>struct kvm_guest_debug: what of the guest's execution ends KVM_RUN, or is given to the guest.</summary>
[StructLayout(LayoutKind.Sequential)]
unsafe struct KvmGuestDebug
{
    public const uint Enable = 1, SingleStep = 2, SoftwareBreakpoints = 0x10000, HardwareBreakpoints = 0x20000,
        InjectDebug = 0x40000, InjectBreakpoint = 0x80000, BlockInterrupts = 0x100000;

    public uint Control, Padding;
    public fixed ulong Registers[8];                               // DR0 to DR3, and DR7
}

/// <summary>The head of struct kvm_run, and the parts of its union that are used.</summary>
[StructLayout(LayoutKind.Explicit)]
unsafe struct KvmRun
{
    public const uint ExitIo = 2, ExitDebug = 4, ExitHlt = 5, ExitMmio = 6, ExitIrqWindow = 7, ExitShutdown = 8,
        ExitFailEntry = 9, ExitInterrupted = 10, ExitInternalError = 17, ExitSystemEvent = 24,
        ExitHyperV = 27, ExitUnknown = 0, ExitException = 1, ExitSetTpr = 11, ExitTprAccess = 12, ExitIoApicEoi = 26,
        ExitReadMsr = 29;

    /// <summary>Of Flags: the vCPU is in system management mode.</summary>
    public const ushort InSmm = 1;

    [FieldOffset(0)] public byte RequestInterruptWindow;
    [FieldOffset(1)] public byte ImmediateExit;
    [FieldOffset(8)] public uint ExitReason;
    [FieldOffset(12)] public byte ReadyForInterrupt;
    [FieldOffset(13)] public byte InterruptFlag;
    [FieldOffset(14)] public ushort Flags;
    [FieldOffset(16)] public ulong Cr8;
    [FieldOffset(24)] public ulong ApicBase;
    [FieldOffset(32)] public byte IoDirection;                     // 1: out
    [FieldOffset(33)] public byte IoSize;
    [FieldOffset(34)] public ushort IoPort;
    [FieldOffset(36)] public uint IoCount;
    [FieldOffset(40)] public ulong IoDataOffset;
    [FieldOffset(32)] public ulong MmioAddress;
    [FieldOffset(40)] public fixed byte MmioData[8];
    [FieldOffset(48)] public uint MmioLength;
    [FieldOffset(52)] public byte MmioIsWrite;
    [FieldOffset(32)] public uint DebugException;                  // 1 or 3
    [FieldOffset(40)] public ulong DebugAddress;                   // linear, of the next instruction
    [FieldOffset(48)] public ulong DebugDr6;
    [FieldOffset(32)] public ulong HardwareReason;
    [FieldOffset(40)] public uint EntryCpu;
    [FieldOffset(32)] public uint SubError;
    [FieldOffset(36)] public uint ErrorCount;
    [FieldOffset(40)] public fixed ulong ErrorData[16];
    [FieldOffset(32)] public byte EoiVector;
    [FieldOffset(32)] public uint SystemEventType;
    [FieldOffset(32)] public uint HyperVType;                      // struct kvm_hyperv_exit
    [FieldOffset(48)] public ulong HyperVResult;
    [FieldOffset(32)] public byte MsrError;                        // not 0: #GP
    [FieldOffset(44)] public uint MsrIndex;
    [FieldOffset(48)] public ulong MsrData;

    /// <summary>HvPostMessage and HvSignalEvent: there is no port of this number.</summary>
    public void RefuseHypercall()
    {
        const uint hypercall = 2;
        const ulong invalidConnection = 0x12;
        if (HyperVType == hypercall) HyperVResult = invalidConnection;
    }
}
