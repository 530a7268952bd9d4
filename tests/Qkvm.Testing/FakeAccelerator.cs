using Qkvm.Core.Accel;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Testing;

/// <summary>vCPUs that execute nothing: they wait until they are kicked, or leave with what the test says.</summary>
public sealed class FakeAccelerator : IAccelerator, ICpuModels
{
    public string Name => "fake";
    public IKernelIrqChip? IrqChip { get; init; }
    public LogItem SilentItems { get; init; }
    public ICpuModels CpuModels => this;
    public IReadOnlyList<CpuDefinition> Definitions { get; } =
        [new("max", "max-x86_64-cpu", [], Static: false, MigrationSafe: false, Deprecated: false, null)];

    public CpuView Expand(CpuSetup setup) => new(setup.Features, "FakeFakeFake", "a fake", 6, 1, 2, 13, 0x80000008,
        40, []);
    public List<FakeCpu> Cpus { get; } = [];

    public bool HasSmm { get; init; }

    public void Attach(AddressSpace memory, AddressSpace ports, MachineLock machineLock, AddressSpace? smm = null) =>
        Smm = smm;

    /// <summary>Memory of system management mode.</summary>
    public AddressSpace? Smm { get; private set; }

    public IVCpu CreateVCpu(int index, CpuSetup setup)
    {
        var cpu = new FakeCpu(index, setup);
        Cpus.Add(cpu);
        return cpu;
    }

    /// <summary>The A20 gate.</summary>
    public bool IsA20Open { get; private set; } = true;

    public void SetA20(bool open) => IsA20Open = open;

    /// <summary>Where the vCPUs stop.</summary>
    public IReadOnlyList<DebugPoint> Points { get; private set; } = [];

    public bool CanStopAt(IReadOnlyList<DebugPoint> points, IVCpu view) => true;
    public void StopAt(IReadOnlyList<DebugPoint> points, IVCpu view) => Points = points;
    public void Dispose() { }
}

public sealed class FakeCpu(int index, CpuSetup setup) : IVCpu
{
    readonly SemaphoreSlim _wake = new(0);
    readonly Queue<VCpuExit> _exits = new();
    int _entered;

    public CpuSetup Setup { get; } = setup;
    public int Resets { get; private set; }
    public List<CpuSignal> Signals { get; } = [];

    /// <summary>How often the local APIC called.</summary>
    public int Interrupts { get; private set; }

    /// <summary>Times that Run was entered.</summary>
    public int Entered => Volatile.Read(ref _entered);

    public int Index { get; } = index;
    public ILocalApic? Apic { get; set; }
    public ICoprocessorErrors? CoprocessorErrors { get; set; }
    public VCpuSteps Steps { get; set; }
    public bool IsHalted => true;
    public ulong TimeStampCounter => 0;
    public ulong TimeStampHertz => 1_000_000_000;
    public ulong InstructionPointer => 0xFFF0;

    public VCpuExit Run()
    {
        Interlocked.Increment(ref _entered);
        _wake.Wait();
        lock (_exits) return _exits.Dequeue();
    }

    public void Kick() => Leave(new VCpuExit(ExitReason.Kicked));

    public void Leave(VCpuExit exit)
    {
        lock (_exits) _exits.Enqueue(exit);
        _wake.Release();
    }

    public void Reset() => Resets++;
    public void InterruptPending() => Interrupts++;
    public void Signal(CpuSignal signal, byte vector = 0) => Signals.Add(signal);
    public void Exchange(StateStream state) { }

    /// <summary>What <see cref="ReadRegisters"/> gives and <see cref="WriteRegisters"/> takes.</summary>
    public CpuRegisters Registers { get; private set; } = new() { Xsave = new byte[CpuRegisters.XsaveAvx512End] };

    public CpuRegisters ReadRegisters() => Registers;
    public void WriteRegisters(CpuRegisters registers) => Registers = registers;

    public bool TryTranslate(ulong linear, out ulong physical)
    {
        physical = linear;
        return true;
    }
}
