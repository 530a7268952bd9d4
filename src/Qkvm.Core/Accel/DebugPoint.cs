namespace Qkvm.Core.Accel;

/// <summary>What of an instruction a debugger's point is about; in the order of GDB's packets Z0 to Z4.</summary>
public enum DebugPointKind
{
    /// <summary>It is about to be executed. Under KVM software points change its first byte while the guest runs, if it
    /// is there already; hardware points take one of four registers, which the guest then has not.</summary>
    Software, Hardware,
    /// <summary>It has written, read, or either. Under KVM these take such registers too, and reading alone cannot be
    /// told.</summary>
    Write, Read, Access,
}

/// <summary>Where a debugger wants the machine to stop, whatever the address space.</summary>
/// <param name="Address">Linear; of instructions that of their first byte.</param>
/// <param name="Length">Bytes watched; of no meaning for instructions.</param>
public readonly record struct DebugPoint(DebugPointKind Kind, ulong Address, ulong Length = 1)
{
    public bool IsCode => Kind <= DebugPointKind.Hardware;

    /// <summary>An access of so many bytes is one that it wants.</summary>
    public bool IsHitBy(ulong linear, ulong size, bool write) =>
        !IsCode && (Kind == DebugPointKind.Access || write == (Kind == DebugPointKind.Write))
        && linear - Address < Length | Address - linear < size;

    /// <summary>It watches a byte of this page of 4 KiB.</summary>
    public bool IsInPage(ulong page)
    {
        const ulong size = 4096;
        return !IsCode && (page - Address < Length || Address - page < size);
    }
}

/// <summary>How a vCPU goes on for a debugger.</summary>
public enum VCpuSteps
{
    /// <summary>Without end.</summary>
    None,
    /// <summary>For one instruction, or for what comes in its place: a fault or an interrupt is delivered, and its
    /// handler not begun.</summary>
    One,
    /// <summary>Likewise, with interrupts held off as long as it is not in HLT.</summary>
    OneUndisturbed,
}

/// <summary>Why a vCPU left <see cref="IVCpu.Run"/> with <see cref="ExitReason.Debug"/>: at a point, or, with none,
/// after a step.</summary>
/// <param name="Address">Of data: the address that was accessed, within the point; under KVM perhaps one of the
/// seven before it.</param>
public readonly record struct DebugStop(DebugPoint? Point, ulong Address = 0);
