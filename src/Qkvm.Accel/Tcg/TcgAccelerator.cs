using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Accel.Tcg;

/// <summary>The software CPU as an accelerator: vCPUs over one memory, which tell each other of decoded code.</summary>
public sealed class TcgAccelerator : IAccelerator, ITranslating, ISingleStepping
{
    public static readonly AcceleratorModel Model = new("tcg",
        [
            Property.Enum("thread", "multi", ["single", "multi"], "taken, no effect: one thread for each vCPU"),
            Property.Bool("split-wx", true, "taken, no effect: code is never writable"),
            Property.Number("tb-size", 192, 16, 4096, "MiB for translations"),
            Property.Bool("one-insn-per-tb", false, "blocks of one instruction"),
        ],
        static (properties, _) => new TcgAccelerator
        {
            CodeCacheLimit = (long)properties.Number("tb-size") << 20,
            OneInstruction = properties.Bool("one-insn-per-tb"),
        }) { Description = "the software CPU" };

    readonly CodeMaps _code = new();
    readonly HyperVPartition _partition = new();
    readonly List<Cpu> _cpus = [];
    AddressSpace? _memory, _ports, _smm;

    public string Name => Model.Name;

    /// <summary>None: the board's own controllers are used.</summary>
    public IKernelIrqChip? IrqChip => null;

    public ICpuModels CpuModels { get; } = new CpuModelCatalogue(CpuHost.Software());

    /// <summary>Features of -cpu that do not exist here, for a warning as QEMU prints it.</summary>
    public IReadOnlyList<string> MissingFeatures { get; private set; } = [];

    /// <summary>Hears of interrupts and exceptions: -d int. Changed while the vCPUs stand.</summary>
    public ICpuTrace? Trace
    {
        get;
        set
        {
            field = value;
            foreach (Cpu cpu in _cpus) cpu.Trace = value;
        }
    }

    /// <summary>Hears of code that the vCPUs meet. As <see cref="Trace"/>.</summary>
    public ICodeTrace? CodeTrace
    {
        get;
        set
        {
            field = value;
            foreach (Cpu cpu in _cpus) cpu.CodeTrace = value;
        }
    }

    /// <summary>Blocks of one instruction: -accel tcg,one-insn-per-tb=on.</summary>
    public bool OneInstruction
    {
        get;
        set
        {
            field = value;
            foreach (Cpu cpu in _cpus) cpu.OneInstruction = value;
        }
    }

    /// <summary>Read while the vCPUs run: each figure is right by itself.</summary>
    public IReadOnlyList<TranslatorStatistics> Statistics => [.. _cpus.Select(cpu => cpu.Statistics)];

    /// <summary>vCPUs made from now on run translated code where their mode allows it; otherwise all is
    /// interpreted.</summary>
    public bool Translates { get; set; } = Environment.GetEnvironmentVariable("QKVM_INTERPRET") == null;

    /// <summary>Each instruction goes through both, and a difference is told on stderr: -d lockstep.</summary>
    public bool Lockstep { get; set; }

    /// <summary>Bytes for translations of all vCPUs together.</summary>
    public long CodeCacheLimit { get; set; } = 192 << 20;

    /// <summary>vCPUs share the limit evenly; each has its own translations, and of hundreds less than is good for
    /// one: all of them lie below 2 GiB.</summary>
    int CodeCacheOf(CpuSetup setup)
    {
        const long least = 16 << 20, room = 1600 << 20;
        int cpus = setup.Sockets * setup.Cores * setup.Threads;
        return (int)Math.Clamp(CodeCacheLimit / cpus, Math.Min(least, room / cpus), Cpu.DefaultCodeCache);
    }

    public bool HasSmm => true;

    public void Attach(AddressSpace memory, AddressSpace ports, MachineLock machineLock, AddressSpace? smm = null)
    {
        (_memory, _ports, _smm) = (memory, ports, smm);
        memory.ViewChanged += OnViewChanged;
        smm?.ViewChanged += OnViewChanged;
    }

    public IVCpu CreateVCpu(int index, CpuSetup setup)
    {
        if (_memory == null || _ports == null)
            throw new InvalidOperationException("Attach comes before the first vCPU");
        Cpuid cpuid = Tcg.Model.CpuModels.Resolve(setup);
        MissingFeatures = cpuid.Missing;
        var cpu = new Cpu(index, _memory, _ports, _code, cpuid, CodeCacheOf(setup), _smm, _partition)
        {
            Trace = Trace, CodeTrace = CodeTrace, Translates = Translates, Lockstep = Lockstep,
                OneInstruction = OneInstruction, Warn = Warn,
        };
        _cpus.Add(cpu);
        return new SoftwareVCpu(cpu);
    }

    public void SetA20(bool open)
    {
        foreach (Cpu cpu in _cpus) cpu.SetA20(open);
    }

    public bool CanStopAt(IReadOnlyList<DebugPoint> points, IVCpu view) => true;

    public void StopAt(IReadOnlyList<DebugPoint> points, IVCpu view)
    {
        foreach (Cpu cpu in _cpus) cpu.StopAt(points);
    }

    /// <summary>Hears once of firmware that halts for ever.</summary>
    public Action<string>? Warn { get; set; }

    public void Dispose()
    {
        _memory?.ViewChanged -= OnViewChanged;
        _smm?.ViewChanged -= OnViewChanged;
        foreach (Cpu cpu in _cpus) cpu.Dispose();
        _code.Dispose();
    }

    /// <summary>vCPUs lose their write tags, and with watched pages get none before the next write is
    /// noticed.</summary>
    public void LogWrites(bool on) => _code.Post(new CodeNotice(CodeNoticeKind.View, 0, -1));

    public void CollectWrites(Action<Host.GuestRam, ulong> written) => LogWrites(true);

    void OnViewChanged(FlatView old, FlatView now) => _code.Post(new CodeNotice(CodeNoticeKind.View, 0, -1));
}
