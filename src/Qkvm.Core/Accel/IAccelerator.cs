using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Core.Accel;

/// <summary>What runs the guest's instructions: "kvm" or "tcg".</summary>
public interface IAccelerator : IDisposable
{
    string Name { get; }

    /// <summary>The kernel's PIC, IOAPIC and local APICs, where the accelerator brings them (KVM); null: the board
    /// builds its own.</summary>
    IKernelIrqChip? IrqChip { get; }

    /// <summary>The kernel's local APICs, where the board has the rest (KVM's kernel-irqchip=split).</summary>
    IKernelApics? Apics => null;

    /// <summary>The kernel runs the guest, whoever has the interrupt controllers.</summary>
    bool IsKernel => false;

    /// <summary>Of these log items it tells nothing.</summary>
    LogItem SilentItems => LogItem.None;

    /// <summary>What -cpu can name.</summary>
    ICpuModels CpuModels { get; }

    /// <summary>Its vCPUs have system management mode, where a board has memory for it.</summary>
    bool HasSmm => false;

    /// <summary>Before the first vCPU: what guests see. The accelerator follows the views' changes.</summary>
    /// <param name="smm">What vCPUs see in system management mode; null: there is none, SMIs find nobody.</param>
    void Attach(AddressSpace memory, AddressSpace ports, MachineLock machineLock, AddressSpace? smm = null);

    IVCpu CreateVCpu(int index, CpuSetup setup);

    /// <summary>Begins or ends noticing what vCPUs write to pages with <see cref="Host.GuestRam.WatchedPage"/>. While
    /// they stand.</summary>
    void LogWrites(bool on) { }

    /// <summary>Pages get that flag again; and those are told, by block and number, whose writes the kernel noticed by
    /// itself. While the vCPUs stand.</summary>
    void CollectWrites(Action<Host.GuestRam, ulong> written) { }

    /// <summary>The machine is paused: a clock of the accelerator's own stands too.</summary>
    void StopClock() { }

    /// <summary>It is about to go on.</summary>
    void StartClock() { }

    /// <summary>What belongs to no vCPU. While the vCPUs stand.</summary>
    void Exchange(StateStream state) { }

    /// <summary>The A20M# pin of all processors: while the gate is closed, bit 20 of their physical addresses is zero.
    /// Devices' own accesses are not concerned. Under the machine lock; a vCPU that closes it by an OUT finds it closed
    /// at the next instruction.</summary>
    void SetA20(bool open);

    /// <summary>Whether all these points can be had together. While the vCPUs stand.</summary>
    /// <param name="view">Where points change memory: who knows which physical address is meant.</param>
    bool CanStopAt(IReadOnlyList<DebugPoint> points, IVCpu view) => points.Count == 0;

    /// <summary>All vCPUs stop at these from now on, and no longer at earlier ones. While the vCPUs stand; called
    /// before they run, and with none after they have stopped, so that guest memory is as the guest left it
    /// meanwhile. What was set last and is set again costs nothing.</summary>
    /// <param name="view">As for <see cref="CanStopAt"/>.</param>
    void StopAt(IReadOnlyList<DebugPoint> points, IVCpu view) { }
}

/// <summary>How -cpu and -smp shape one vCPU.</summary>
/// <param name="Model">-cpu's model name; "max" or "host" for all there is.</param>
/// <param name="Features">feature name and whether it is switched on: +x, -x, x=on.</param>
public sealed record CpuSetup(string Model, IReadOnlyList<KeyValuePair<string, bool>> Features,
    int ApicId, int Sockets, int Cores, int Threads, int PhysicalAddressBits = 40)
{
    /// <summary>Of a socket; cores are a die's.</summary>
    public int Dies { get; init; } = 1;

    /// <summary>-cpu's properties with values other than on and off: vendor=, level= …</summary>
    public IReadOnlyList<OptionPair> Properties { get; init; } = [];
}

/// <summary>Interrupt controllers in the kernel.</summary>
public interface IKernelIrqChip
{
    void SetGsi(int gsi, bool level);
    void SendMsi(ulong address, uint data);
    void Exchange(StateStream state);
    void Reset();
}

/// <summary>Local APICs in the kernel, beside a board's own 8259 pair and I/O APICs.</summary>
public interface IKernelApics
{
    /// <summary>A message to them, from any thread. Bits 63:40 of the address continue the destination, whose low byte
    /// is in bits 19:12.</summary>
    void SendMsi(ulong address, uint data);

    /// <summary>Their ids may have 32 bits.</summary>
    bool HasWideIds { get; }

    /// <summary>INTR of the 8259 to the boot processor. Under the machine lock.</summary>
    void SetIntr(bool level);

    /// <summary>Answers the processor's acknowledge, under the machine lock: the vector.</summary>
    Func<int>? AcknowledgeIntr { get; set; }

    /// <summary>This level triggered input of an I/O APIC sends such messages, and is to hear of their ends. Under the
    /// machine lock.</summary>
    void Watch(int input, ulong address, uint data);

    /// <summary>It sends none any more.</summary>
    void Unwatch(int input);

    /// <summary>A processor has ended an interrupt of this vector which is watched. Under the machine lock.</summary>
    Action<int>? Ended { get; set; }
}

public enum CpuSignal { Init, StartUp, Nmi, Smi }

/// <summary>What a local APIC (or the board) can do to a vCPU, from any thread.</summary>
public interface IVCpuSignals
{
    /// <summary>The local APIC's <see cref="ILocalApic.HasInterrupt"/> may have become true: wake from HLT and
    /// look.</summary>
    void InterruptPending();
    void Signal(CpuSignal signal, byte vector = 0);
}

/// <summary>A vCPU's own local APIC, as the software CPU uses it. Its members take the machine lock themselves, but for
/// <see cref="HasInterrupt"/>, which any thread may read at any time.</summary>
public interface ILocalApic
{
    /// <summary>An interrupt above the processor priority is pending (or the 8259's INTR through LINT0).</summary>
    bool HasInterrupt { get; }

    /// <summary>Takes the interrupt: its vector, or -1 if it has gone.</summary>
    int Acknowledge();

    /// <summary>Whether the interrupt just taken may end without an EOI: nothing else is pending or served, and no wire
    /// waits for its end. The APIC then calls the vCPU when anything new waits, until
    /// <see cref="SettleEoi"/>.</summary>
    bool TryElideEoi() => false;

    /// <summary>A fixed, edge triggered interrupt, from any thread.</summary>
    void Inject(byte vector) { }

    /// <summary>Something waits, whether it can be taken now or not.</summary>
    bool HasWaiting => HasInterrupt;

    /// <summary>The interrupt whose EOI was elided has ended, or will end by an EOI after all.</summary>
    void SettleEoi(bool isEnded) { }

    /// <summary>IA32_APIC_BASE, MSR 1Bh.</summary>
    ulong BaseMsr { get; }

    /// <summary>False: not possible, the CPU raises #GP.</summary>
    bool WriteBaseMsr(ulong value);

    /// <summary>A register by its number (offset / 16), without side effects, for people who look.</summary>
    uint Peek(int register) => 0;

    /// <summary>The xAPIC page; offset 0..FFFh.</summary>
    uint ReadMmio(uint offset);
    void WriteMmio(uint offset, uint value);

    /// <summary>x2APIC MSRs 800h..8FFh; false raises #GP.</summary>
    bool ReadMsr(uint msr, out ulong value);
    bool WriteMsr(uint msr, ulong value);

    /// <summary>CR8: bits 7..4 of the task priority.</summary>
    byte Cr8 { get; set; }

    /// <summary>IA32_TSC_DEADLINE, MSR 6E0h: the guest TSC value at which the timer fires, 0 for none.</summary>
    ulong TscDeadline { get; set; }
}

public enum ExitReason
{
    /// <summary>Kick was called.</summary>
    Kicked,
    /// <summary>Triple fault.</summary>
    Shutdown,
    /// <summary>The accelerator cannot go on; Message says why.</summary>
    Failed,
    /// <summary>A debugger's breakpoint or step.</summary>
    Debug,
}

/// <param name="Stop">Of <see cref="ExitReason.Debug"/>: what it was.</param>
public readonly record struct VCpuExit(ExitReason Reason, string? Message = null, DebugStop Stop = default);

/// <summary>One virtual processor. Run is called on its own thread; the rest while it does not run, unless
/// stated.</summary>
public interface IVCpu : IVCpuSignals
{
    int Index { get; }

    /// <summary>Set before the first Run, where the board built the interrupt controllers.</summary>
    ILocalApic? Apic { get; set; }

    /// <summary>Where x87 errors are told with CR0.NE clear; what ignores it tells nobody. Set before the first
    /// Run.</summary>
    ICoprocessorErrors? CoprocessorErrors { get => null; set { } }

    /// <summary>It shows Hyper-V's interface, and leaves a part to the board.</summary>
    bool HasHyperV => false;

    /// <summary>That part. Set before the first Run.</summary>
    IHyperVRegisters? HyperV { get => null; set { } }

    /// <summary>Hyper-V's time since power-on, in 100 ns; any thread.</summary>
    ulong ReferenceTime => 0;

    /// <summary>CPUID shows the local APIC timer's TSC-deadline mode.</summary>
    bool HasTscDeadline => true;

    /// <summary>CPUID leaf 1, as the guest sees it: EAX, and EDX in the upper half.</summary>
    ulong ProcessorId => 0;

    /// <summary>Executes, or sleeps in HLT, until the machine is needed. Registers of devices are accessed
    /// inside.</summary>
    VCpuExit Run();

    /// <summary>How the next Run goes on.</summary>
    VCpuSteps Steps { get => VCpuSteps.None; set { } }

    /// <summary>A step ends at once, and any thread may make it: nothing is waited for.</summary>
    bool StepsAtOnce => false;

    /// <summary>From any thread: leave Run soon (once).</summary>
    void Kick();

    /// <summary>Power-on state; all but the boot processor then wait for INIT and SIPI.</summary>
    void Reset();

    void Exchange(StateStream state);

    /// <summary>In HLT or waiting for SIPI; any thread.</summary>
    bool IsHalted { get; }

    /// <summary>The guest's time stamp counter now, and its frequency; any thread.</summary>
    ulong TimeStampCounter { get; }
    ulong TimeStampHertz { get; }

    /// <summary>A copy of all registers. Only while no vCPU runs, or by the vCPU itself.</summary>
    CpuRegisters ReadRegisters();

    /// <summary>Puts all registers back, changed by a debugger or loaded. As <see cref="ReadRegisters"/>.</summary>
    /// <exception cref="InvalidStateException">This processor cannot be in such a state.</exception>
    void WriteRegisters(CpuRegisters registers);

    ulong InstructionPointer { get; }

    /// <summary>Guest virtual to physical without side effects.</summary>
    bool TryTranslate(ulong linear, out ulong physical);
}
