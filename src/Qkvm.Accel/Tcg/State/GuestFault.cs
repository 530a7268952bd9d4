namespace Qkvm.Accel.Tcg;

/// <summary>Exception vectors. Intel SDM vol. 3, table 6-1.</summary>
public static class Vector
{
    public const int DivideError = 0, Debug = 1, Nmi = 2, Breakpoint = 3, Overflow = 4, Bound = 5, InvalidOpcode = 6,
        DeviceNotAvailable = 7, DoubleFault = 8, InvalidTss = 10, NotPresent = 11, StackFault = 12,
            GeneralProtection = 13,
        PageFault = 14, X87 = 16, AlignmentCheck = 17, MachineCheck = 18, Simd = 19, ControlProtection = 21;
}

/// <summary>Thrown by an instruction handler before it has changed any state: the instruction raises this exception.
/// The run loop delivers it with RIP still at the instruction.</summary>
/// <remarks>One instance per vCPU is reused, so that faults allocate nothing.</remarks>
public sealed class GuestFault : Exception
{
    public int Number { get; private set; }

    /// <summary>Pushed error code, or null for vectors without one.</summary>
    public uint? ErrorCode { get; private set; }

    public GuestFault With(int vector, uint? errorCode)
    {
        (Number, ErrorCode) = (vector, errorCode);
        return this;
    }
}
