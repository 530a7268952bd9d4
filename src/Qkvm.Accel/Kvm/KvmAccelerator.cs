using System.Diagnostics.CodeAnalysis;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: structures lie on the stack for the time of the call.
/// <summary>The kernel runs the guest. Documentation/virt/kvm/api.rst.</summary>
public sealed partial class KvmAccelerator : IAccelerator
{
    public static readonly AcceleratorModel Model = new("kvm",
        [
            Property.Enum("kernel-irqchip", "on", ["on", "off", "split"], "which interrupt controllers are the "
                + "kernel's: all, none, or the local APICs"),
        ],
        static (properties, machine) => new KvmAccelerator(
            ParseIrqChip(machine.KernelIrqChip ?? properties.Required("kernel-irqchip")), machine.Topology.MaxCpus))
         { Description = "the kernel runs the guest on the processor itself" };

    // Three pages that Intel processors need below 4 GiB, where no PC has memory or flash, which may have 16 MiB; and
    // one page before them. The firmware is told of them.
    static readonly nint TssAddress = unchecked((nint)0xFEFFD000);
    const ulong IdentityMapAddress = 0xFEFFC000;
    const int MaxSlots = 500;

    readonly int _device, _machine;
    readonly List<KvmVCpu> _cpus = [];
    readonly KvmApics? _apics;
    readonly KvmInterrupts _interrupts;
    readonly KvmClock _clock;
    readonly Lazy<HyperVFeatures> _hyperV;
    readonly KvmMemory _slots, _smmSlots;
    readonly KvmLateWrites _lateWrites;
    AddressSpace? _memory, _ports, _smm;
    KvmPoints _points = KvmPoints.None;

    /// <param name="cpus">As many may come.</param>
    /// <exception cref="ConfigurationException">/dev/kvm cannot be used; the message says what helps.</exception>
    public unsafe KvmAccelerator(KernelIrqChip irqChip = KernelIrqChip.On, int cpus = 1)
    {
        _device = KvmDevice.Open();
        _hyperV = new(() => KvmCpuid.SupportedHyperV(_device));
        try
        {
            if (KvmRequirements.WhyNot(Check, irqChip, cpus) is { } why) Refuse(why);
            _machine = KvmApi.Call(_device, KvmApi.CreateVm, 0, "cannot create a machine");
            ulong identity = IdentityMapAddress;
            KvmApi.Call(_machine, KvmApi.SetIdentityMapAddress, &identity, "cannot set the identity map");
            KvmApi.Call(_machine, KvmApi.SetTssAddress, TssAddress, "cannot set the TSS address");
            if (irqChip == KernelIrqChip.On) IrqChip = new KvmIrqChip(_machine);
            if (irqChip == KernelIrqChip.Split) Apics = _apics = new KvmApics(_machine);
            _interrupts = new KvmInterrupts(irqChip, _apics);
            _clock = new KvmClock(_machine);
            _slots = new KvmMemory(_machine, MaxSlots);
            _smmSlots = new KvmMemory(_machine, MaxSlots, space: 1);
            _lateWrites = new KvmLateWrites(_machine);
            KvmMsrFilter.Install(_machine);
        }
        catch (HostException e)
        {
            Libc.close(_device);
            throw new ConfigurationException($"{e.Message}; use -accel tcg", e);
        }
    }

    public string Name => Model.Name;
    public bool IsKernel => true;
    public IKernelIrqChip? IrqChip { get; }
    public IKernelApics? Apics { get; }
    public LogItem SilentItems => LogItem.SoftwareCpu;
    public ICpuModels CpuModels => field ??= KvmCpuid.ModelsOf(SupportedLeaves, KvmCpuid.HostBrand(), HasDeadline);

    /// <summary>Features of -cpu that do not exist here.</summary>
    public IReadOnlyList<string> MissingFeatures { get; private set; } = [];

    CpuidLeaf[] SupportedLeaves => field ??= KvmCpuid.Fit(KvmCpuid.Supported(_device), _interrupts.Mode,
        _apics is { HasWideIds: true });

    bool CanBlockInterrupts => (Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionSetGuestDebug2)
        & KvmGuestDebug.BlockInterrupts) != 0;

    /// <summary>Memory of its own for the mode comes with it, on x86.</summary>
    public bool HasSmm => Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionSmm) > 0
        && Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionMultiAddressSpace) > 1;

    bool HasDeadline => _interrupts.Mode != KernelIrqChip.Off
        && Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionTscDeadline) > 0;

    public void Attach(AddressSpace memory, AddressSpace ports, MachineLock machineLock, AddressSpace? smm = null)
    {
        (_memory, _ports, _smm, _interrupts.Lock) = (memory, ports, smm, machineLock);
        _slots.Follow(memory);
        if (smm != null) _smmSlots.Follow(smm);
        new KvmDoorbells(_machine, isPorts: false).Follow(memory);
        new KvmDoorbells(_machine, isPorts: true).Follow(ports);
        _lateWrites.Follow(memory, machineLock);
    }

    public IVCpu CreateVCpu(int index, CpuSetup setup)
    {
        if (_memory == null || _ports == null) throw new InvalidOperationException("Attach comes first");
        Cpuid cpuid = KvmCpuid.Resolve(setup, SupportedLeaves, KvmCpuid.HostBrand(), HasDeadline, _hyperV.Value);
        MissingFeatures = cpuid.Missing;
        if (KvmRequirements.WhyNot(Check, setup.ApicId) is { } why) throw new ConfigurationException(why);
        if (_interrupts.Mode == KernelIrqChip.Off && cpuid.HyperV.Has(HyperVFeatures.SynIc))
            throw new ConfigurationException($"-cpu {setup.Model},hv-synic: needs local APICs of the kernel: give "
                + "kernel-irqchip=on or split");
        ulong hertz = setup.Properties.Any(p => p.Name is "tsc-frequency" or "tsc-freq") ? cpuid.TscHertz : 0;
        var cpu = new KvmVCpu(_device, _machine, index, setup.ApicId, KvmCpuid.Make(cpuid, SupportedLeaves), _memory,
            _ports, _slots, _smm, cpuid.HyperV, _interrupts, hertz)
        {
            CanBlockInterrupts = CanBlockInterrupts,
            CoreThreadCount = cpuid.CoreThreadCount,
        };
        cpu.Use(_lateWrites);
        _cpus.Add(cpu);
        if (index == 0 && _apics != null) _apics.Rising = cpu.InterruptPending;
        return cpu;
    }

    public bool CanStopAt(IReadOnlyList<DebugPoint> points, IVCpu view) =>
        new KvmPoints(points, linear => Locate(linear, view)).IsComplete;

    public void StopAt(IReadOnlyList<DebugPoint> points, IVCpu view)
    {
        _points.Remove();
        _points = points.Count == 0 ? KvmPoints.None : new KvmPoints(points, linear => Locate(linear, view));
        _points.Place();
        foreach (KvmVCpu cpu in _cpus) cpu.StopAt(_points);
    }

    CodeByte? Locate(ulong linear, IVCpu view) => CodeByte.Find(_memory!, view, linear);

    public void LogWrites(bool on)
    {
        _slots.LogWrites(on);
        _smmSlots.LogWrites(on);
    }

    public void CollectWrites(Action<GuestRam, ulong> written)
    {
        _slots.CollectWrites(written);
        _smmSlots.CollectWrites(written);
    }

    public void StopClock() => _clock.Stop();

    public void StartClock()
    {
        _clock.Start();
        foreach (KvmVCpu cpu in _cpus) cpu.TellOfPause();
    }

    public void Exchange(StateStream state) => _clock.Exchange(state);

    public void SetA20(bool open) => _slots.SetA20(open);

    public void Dispose()
    {
        _lateWrites.Detach();
        foreach (KvmVCpu cpu in _cpus) cpu.Dispose();
        _statistics?.Dispose();
        Libc.close(_machine);
        Libc.close(_device);
    }

    static KernelIrqChip ParseIrqChip(string value) => value == "split" ? KernelIrqChip.Split
        : Options.ParseBool(value) == true ? KernelIrqChip.On : KernelIrqChip.Off;

    /// <summary>KVM_CHECK_EXTENSION.</summary>
    int Check(int extension) => Libc.ioctl(_device, KvmApi.CheckExtension, extension);

    [DoesNotReturn]
    void Refuse(string why)
    {
        Libc.close(_device);
        throw new ConfigurationException(why);
    }
}
