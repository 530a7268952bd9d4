using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: structures lie on the stack for the time of the call.
/// <summary>The kernel runs the guest. Documentation/virt/kvm/api.rst.</summary>
public sealed class KvmAccelerator : IAccelerator
{
    public static readonly AcceleratorModel Model = new("kvm",
        [
            Property.Enum("kernel-irqchip", "on", ["on", "off", "split"], "off and split are not built yet"),
        ],
        static (properties, machine) =>
        {
            string irqChip = machine.KernelIrqChip ?? properties.Required("kernel-irqchip");
            if (Options.ParseBool(irqChip) != true)
                throw properties.Error($"kernel-irqchip={irqChip} is not built yet; the interrupt controllers are "
                    + "the kernel's: leave it out or give on");
            return new KvmAccelerator();
        }) { Description = "the kernel runs the guest on the processor itself" };

    // Three pages that Intel processors need below 4 GiB, where no PC has memory or flash, which may have 16 MiB; and
    // one page before them. The firmware is told of them.
    static readonly nint TssAddress = unchecked((nint)0xFEFFD000);
    const ulong IdentityMapAddress = 0xFEFFC000;
    const int MaxSlots = 500;

    readonly int _device, _machine;
    readonly List<KvmVCpu> _cpus = [];
    readonly Lazy<HyperVFeatures> _hyperV;
    readonly KvmMemory _slots, _smmSlots;
    AddressSpace? _memory, _ports, _smm;
    KvmPoints _points = KvmPoints.None;

    /// <exception cref="ConfigurationException">/dev/kvm cannot be used; the message says what helps.</exception>
    public unsafe KvmAccelerator()
    {
        _device = KvmDevice.Open();
        _hyperV = new(() => KvmCpuid.SupportedHyperV(_device));
        try
        {
            Require(KvmApi.ExtensionUserMemory, "user memory");
            Require(KvmApi.ExtensionIrqChip, "interrupt controllers in the kernel");
            Require(KvmApi.ExtensionImmediateExit, "immediate exits (Linux 4.12)");
            Require(KvmApi.ExtensionReadOnlyMemory, "read-only memory");
            Require(KvmApi.ExtensionIoEventFdAnyLength, "doorbells of any width (Linux 4.4)");
            _machine = KvmApi.Call(_device, KvmApi.CreateVm, 0, "cannot create a machine");
            ulong identity = IdentityMapAddress;
            KvmApi.Call(_machine, KvmApi.SetIdentityMapAddress, &identity, "cannot set the identity map");
            KvmApi.Call(_machine, KvmApi.SetTssAddress, TssAddress, "cannot set the TSS address");
            IrqChip = new KvmIrqChip(_machine);
            _slots = new KvmMemory(_machine, MaxSlots);
            _smmSlots = new KvmMemory(_machine, MaxSlots, space: 1);
        }
        catch (HostException e)
        {
            Libc.close(_device);
            throw new ConfigurationException($"{e.Message}; use -accel tcg", e);
        }
    }

    public string Name => Model.Name;
    public IKernelIrqChip? IrqChip { get; }
    public LogItem SilentItems => LogItem.SoftwareCpu;
    public ICpuModels CpuModels => field ??= KvmCpuid.ModelsOf(SupportedLeaves, KvmCpuid.HostBrand(), HasDeadline);

    /// <summary>Features of -cpu that do not exist here.</summary>
    public IReadOnlyList<string> MissingFeatures { get; private set; } = [];

    CpuidLeaf[] SupportedLeaves => field ??= KvmCpuid.Supported(_device);
    bool CanBlockInterrupts => (Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionSetGuestDebug2)
        & KvmGuestDebug.BlockInterrupts) != 0;

    /// <summary>Memory of its own for the mode comes with it, on x86.</summary>
    public bool HasSmm => Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionSmm) > 0
        && Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionMultiAddressSpace) > 1;

    bool HasDeadline => Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionTscDeadline) > 0;

    public void Attach(AddressSpace memory, AddressSpace ports, MachineLock machineLock, AddressSpace? smm = null)
    {
        (_memory, _ports, _smm) = (memory, ports, smm);
        _slots.Follow(memory);
        if (smm != null) _smmSlots.Follow(smm);
        new KvmDoorbells(_machine, isPorts: false).Follow(memory);
        new KvmDoorbells(_machine, isPorts: true).Follow(ports);
    }

    public IVCpu CreateVCpu(int index, CpuSetup setup)
    {
        if (_memory == null || _ports == null) throw new InvalidOperationException("Attach comes first");
        Cpuid cpuid = KvmCpuid.Resolve(setup, SupportedLeaves, KvmCpuid.HostBrand(), HasDeadline, _hyperV.Value);
        MissingFeatures = cpuid.Missing;
        var cpu = new KvmVCpu(_device, _machine, index, setup.ApicId, KvmCpuid.Make(cpuid, SupportedLeaves), _memory,
            _ports, _slots, _smm, cpuid.HyperV) { CanBlockInterrupts = CanBlockInterrupts };
        _cpus.Add(cpu);
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

    public void SetA20(bool open) => _slots.SetA20(open);

    public void Dispose()
    {
        foreach (KvmVCpu cpu in _cpus) cpu.Dispose();
        Libc.close(_machine);
        Libc.close(_device);
    }

    void Require(int extension, string what)
    {
        if (Libc.ioctl(_device, KvmApi.CheckExtension, extension) > 0) return;
        Libc.close(_device);
        throw new ConfigurationException($"-accel kvm: this kernel lacks {what}; use -accel tcg");
    }
}
