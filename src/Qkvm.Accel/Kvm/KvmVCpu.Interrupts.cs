using Qkvm.Core.Accel;

namespace Qkvm.Accel.Kvm;

// SAFETY: the vector lies on the stack for the time of the call.
/// <remarks>Interrupts that do not come from the kernel's own controllers. With kernel-irqchip=split that is INTR of
/// our 8259; with off, all that our local APIC has, which also says when the processor sleeps and starts.
/// KVM_INTERRUPT of Documentation/virt/kvm/api.rst.</remarks>
sealed unsafe partial class KvmVCpu
{
    enum Sleep { None, UntilInterrupt, UntilStartUp }

    const int Nmi = 1, Smi = 2, Init = 4, Started = 8;             // bits of _signals

    const ulong ApicPageSize = 0x1000, NoPage = ulong.MaxValue - 0x1000, PageMask = ApicPageSize - 1;
    const ulong BaseX2Apic = 0x400, BaseEnable = 0x800;            // IA32_APIC_BASE
    const ulong StandardBase = 0xFEE00000, BaseBootProcessor = 0x100;

    readonly KvmInterrupts _interrupts;
    readonly AutoResetEvent _wake = new(false);
    readonly CpuRegisters? _first;                                 // after power-on, where INIT is ours to do
    volatile Sleep _sleep;
    int _signals;                                                  // not migrated: taken before it runs
    byte _startUp;
    ulong _apicBase, _apicPage = NoPage;

    public ILocalApic? Apic { get; set; }

    /// <summary>Without the kernel's local APIC there is nothing that would tell the time.</summary>
    public bool HasTscDeadline => !HasOwnApic;

    bool HasOwnApic => _interrupts.Mode == KernelIrqChip.Off;
    ulong FirstApicBase => StandardBase | BaseEnable | (Index == 0 ? BaseBootProcessor : 0);

    bool HasInterrupt => Apic is { } apic ? apic.HasInterrupt : Index == 0 && _interrupts.HasIntr;

    public void InterruptPending()
    {
        // By itself, in a register of its own: it looks before it goes on.
        if (VCpuRunner.Current != Index) LeaveKernel();
    }

    public void Signal(CpuSignal signal, byte vector = 0)
    {
        if (signal == CpuSignal.Smi && _smm == null) return;
        if (signal == CpuSignal.StartUp) Volatile.Write(ref _startUp, vector);
        Interlocked.Or(ref _signals, signal switch
        {
            CpuSignal.Nmi => Nmi,
            CpuSignal.Smi => Smi,
            CpuSignal.Init => Init,
            _ => Started,
        });
        LeaveKernel();                                             // its own thread does it, as the kernel wants
    }

    void TakeSignals()
    {
        if (Volatile.Read(ref _signals) == 0) return;
        int signals = Interlocked.Exchange(ref _signals, 0);
        if ((signals & Init) != 0) Initialize();
        if ((signals & Started) != 0 && _sleep == Sleep.UntilStartUp) StartUp(Volatile.Read(ref _startUp));
        if (_sleep == Sleep.UntilStartUp) return;
        if ((signals & Smi) != 0) KvmApi.Call(_fd, KvmApi.Smi, 0, "cannot inject an SMI");
        if ((signals & Nmi) != 0) KvmApi.Call(_fd, KvmApi.Nmi, 0, "cannot inject an NMI");
        if ((signals & (Smi | Nmi)) != 0) _sleep = Sleep.None;
    }

    /// <summary>In HLT or before its start; what ends that calls <see cref="LeaveKernel"/> after it has
    /// happened.</summary>
    bool IsAsleep()
    {
        if (_sleep == Sleep.UntilInterrupt && _run->InterruptFlag != 0 && HasInterrupt) _sleep = Sleep.None;
        return _sleep != Sleep.None;
    }

    /// <summary>It has an NMI or SMI already that would end the HLT: one that came before the IRET of the last is
    /// delivered after the next instruction, which may have been this HLT.</summary>
    bool IsWokenByKernel()
    {
        KvmEvents events = Get<KvmEvents>(KvmApi.GetVCpuEvents);
        return (events.NmiPending | events.NmiInjected) != 0 && events.NmiMasked == 0 || events.SmiPending != 0;
    }

    /// <summary>Before the processor runs: the kernel takes one interrupt, or tells when it can.</summary>
    void OfferInterrupts()
    {
        if (_interrupts.Mode == KernelIrqChip.On) return;
        bool waits = HasInterrupt && Steps != VCpuSteps.OneUndisturbed;
        if (waits && _run->ReadyForInterrupt != 0)
        {
            uint vector = (uint)(Apic?.Acknowledge() ?? _interrupts.AcknowledgeIntr());
            if ((int)vector >= 0)
                KvmApi.Call(_fd, KvmApi.Interrupt, &vector, "cannot inject an interrupt");
            waits = HasInterrupt;
        }
        _run->RequestInterruptWindow = waits ? (byte)1 : (byte)0;
        if (Apic != null) _run->Cr8 = Apic.Cr8;
    }

    /// <summary>After it ran: what it did to CR8 and IA32_APIC_BASE.</summary>
    void Settle()
    {
        if (Apic == null) return;
        if ((byte)_run->Cr8 != Apic.Cr8) Apic.Cr8 = (byte)_run->Cr8;
        if (_run->ApicBase == _apicBase && _apicPage != NoPage) return;
        Apic.WriteBaseMsr(_run->ApicBase);
        SetApicBase(_run->ApicBase);
    }

    void SetApicBase(ulong value)
    {
        _apicBase = value;
        bool hasPage = (value & (BaseEnable | BaseX2Apic)) == BaseEnable && HasOwnApic;
        _apicPage = hasPage ? value & ~PageMask : NoPage;
    }

    /// <summary>Its own local APIC's registers, whatever lies behind them.</summary>
    void ApicPage(int size)
    {
        if (Apic == null) return;
        uint offset = (uint)(_run->MmioAddress & PageMask);
        if (_run->MmioIsWrite == 0)
            Store(_run->MmioData, size, Apic.ReadMmio(offset & ~3u) >> (int)(offset & 3) * 8);
        else if ((offset & 3) == 0 && size >= 4) Apic.WriteMmio(offset, (uint)Load(_run->MmioData, size));
    }

    /// <summary>INIT leaves what Intel SDM vol. 3, table 10-1, says: FPU and vector registers, most MSRs, the time
    /// stamp counter.</summary>
    void Initialize()
    {
        CpuRegisters registers = ReadRegisters();
        KvmRegisters.Initialize(registers, _first!);
        (registers.IsHalted, registers.WaitsForSipi) = (false, Index != 0);
        WriteRegisters(registers);
    }

    void StartUp(byte page)
    {
        CpuRegisters registers = ReadRegisters();
        ref SegmentRegister code = ref registers.Segments[CpuRegisters.Cs];
        (code.Selector, code.Base) = ((ushort)(page << 8), (ulong)page << 12);
        (registers.Rip, registers.WaitsForSipi) = (0, false);
        WriteRegisters(registers);
    }

    void ReadSleep(CpuRegisters registers)
    {
        registers.IsHalted = _sleep == Sleep.UntilInterrupt;
        registers.WaitsForSipi = _sleep == Sleep.UntilStartUp;
        if (registers.ApicBase == 0) registers.ApicBase = _apicBase; // the kernel keeps none before it is set
    }

    void WriteSleep(CpuRegisters registers)
    {
        _sleep = registers.WaitsForSipi ? Sleep.UntilStartUp : registers.IsHalted ? Sleep.UntilInterrupt : Sleep.None;
        SetApicBase(registers.ApicBase);
    }
}
