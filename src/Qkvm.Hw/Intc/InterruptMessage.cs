namespace Qkvm.Hw.Intc;

/// <summary>Delivery modes of ICR, LVT, redirection table and MSI data. Intel SDM volume 3, section 11.6.1.</summary>
public enum DeliveryMode { Fixed = 0, LowestPriority = 1, Smi = 2, Nmi = 4, Init = 5, StartUp = 6, ExtInt = 7 }

/// <summary>What travels between IOAPIC, MSI sources and local APICs.</summary>
/// <param name="Destination">APIC IDs or a logical set of them.</param>
/// <param name="IsWide">A 32-bit destination, as x2APIC's ICR sends it; else 8 bits.</param>
public readonly record struct InterruptMessage(byte Vector, DeliveryMode Mode, uint Destination, bool IsLogical,
    bool IsLevel, bool IsWide = false);
