using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.State;

namespace Qkvm.Accel.Tcg;

// SAFETY: reads the vCPU's own state, which is freed when this is disposed of.
/// <summary>A vCPU that the software CPU runs.</summary>
public sealed class SoftwareVCpu(Cpu cpu) : IVCpu
{
    const ulong ApicGlobalEnable = 0x800;

    public Cpu Cpu { get; } = cpu;
    public int Index => Cpu.Index;

    public ILocalApic? Apic
    {
        get => Cpu.Apic;
        set => Cpu.Apic = value;
    }

    public ICoprocessorErrors? CoprocessorErrors
    {
        get => Cpu.CoprocessorErrors;
        set => Cpu.CoprocessorErrors = value;
    }

    public bool HasHyperV => Cpu.Model.HyperV.IsOn;

    public IHyperVRegisters? HyperV
    {
        get => Cpu.HyperV;
        set => Cpu.HyperV = value;
    }

    public ulong ReferenceTime => Cpu.ReferenceTime;

    public ulong ProcessorId
    {
        get
        {
            CpuidResult leaf = Cpu.Model.Query(1, 0, 0, 0, ApicGlobalEnable);
            return leaf.Eax | (ulong)leaf.Edx << 32;
        }
    }

    public bool HasTscDeadline => Cpu.Model.Has("tsc-deadline");
    public bool IsHalted => Cpu.IsHalted;
    public ulong TimeStampCounter => Cpu.ReadTsc();
    public ulong TimeStampHertz => Cpu.TscHertz;
    public unsafe ulong InstructionPointer => Cpu.State->Rip;

    public VCpuSteps Steps
    {
        get => Cpu.Steps;
        set => Cpu.Steps = value;
    }

    public bool StepsAtOnce => Cpu.StepsAtOnce;

    public VCpuExit Run()
    {
        try
        {
            return Cpu.Run();
        }
        catch (Exception failure)
        {
            // A bug of ours must stop the machine with a message, not the process.
            return new VCpuExit(ExitReason.Failed, $"CPU {Index} at {InstructionPointer:x}: {failure}");
        }
    }

    public void Kick() => Cpu.Kick();
    public void Reset() => Cpu.Reset();
    public void InterruptPending() => Cpu.InterruptPending();
    public void Signal(CpuSignal signal, byte vector = 0) => Cpu.Signal(signal, vector);
    public void Exchange(StateStream state) => Cpu.Exchange(state);
    public CpuRegisters ReadRegisters() => Cpu.ReadRegisters();
    public void WriteRegisters(CpuRegisters registers) => Cpu.WriteRegisters(registers);
    public bool TryTranslate(ulong linear, out ulong physical) => Cpu.TryTranslate(linear, out physical);
}
