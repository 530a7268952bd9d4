using Qkvm.Core.Machine;

namespace Qkvm.Accel.Kvm;

/// <summary>kernel-irqchip=: which interrupt controllers are the kernel's.</summary>
public enum KernelIrqChip
{
    /// <summary>None.</summary>
    Off,
    /// <summary>The local APICs.</summary>
    Split,
    /// <summary>The 8259 pair and the I/O APIC too.</summary>
    On,
}

/// <summary>What processors ask of the interrupt controllers that are ours.</summary>
sealed class KvmInterrupts(KernelIrqChip mode, KvmApics? apics)
{
    public KernelIrqChip Mode => mode;

    /// <summary>Where registers are.</summary>
    public MachineLock? Lock { get; set; }

    /// <summary>INTR of our 8259, for the boot processor.</summary>
    public bool HasIntr => apics is { Intr: true };

    public int AcknowledgeIntr()
    {
        using MachineLock.Scope held = Lock!.Hold();
        return apics is { Intr: true, AcknowledgeIntr: { } acknowledge } ? acknowledge() : -1;
    }

    /// <summary>Of a level triggered interrupt.</summary>
    public void End(int vector)
    {
        using MachineLock.Scope held = Lock!.Hold();
        apics?.Ended?.Invoke(vector);
    }
}
