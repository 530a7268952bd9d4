namespace Qkvm.Hw.Intc;

/// <summary>An IOMMU between the I/O APIC and the local APICs.</summary>
public interface IInterruptRemapper
{
    /// <summary>Under the machine lock. False where the message is blocked: the fault is on record then.</summary>
    /// <param name="isQuestion">Nothing is sent: no fault either.</param>
    bool TryRemapIoApic(ulong address, uint data, out InterruptMessage message, bool isQuestion);
}
