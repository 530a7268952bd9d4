namespace Qkvm.Core.Accel;

/// <summary>What the board adds to a vCPU that shows Hyper-V's interface: its synthetic interrupt controller, its
/// timers, the registers that report crashes and reset the machine.</summary>
public interface IHyperVRegisters
{
    /// <summary>False raises #GP.</summary>
    bool ReadMsr(uint msr, out ulong value);

    /// <summary>False raises #GP.</summary>
    bool WriteMsr(uint msr, ulong value);
}
