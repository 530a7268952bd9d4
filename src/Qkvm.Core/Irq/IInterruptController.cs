namespace Qkvm.Core.Irq;

/// <summary>An interrupt controller as people look at it: `info pic` and `info irq`. Under the machine lock.</summary>
public interface IInterruptController
{
    /// <summary>QEMU's name for the chip: "ioapic".</summary>
    string ChipName { get; }

    /// <summary>How often each input rose.</summary>
    IReadOnlyList<long> Counts { get; }

    /// <summary>Its registers in QEMU's words, lines that end.</summary>
    string Describe();
}
