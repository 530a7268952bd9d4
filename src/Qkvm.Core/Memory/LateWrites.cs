namespace Qkvm.Core.Memory;

/// <summary>Lets writes to a region of registers come late: in their order, before anything else that a vCPU does
/// there or at other registers, and before somebody looks who calls <see cref="Settle"/> first. So an accelerator can
/// gather them, where each would cost it an exit.</summary>
/// <remarks>For registers that do nothing by themselves when they are written, as video memory.</remarks>
public sealed class LateWrites
{
    /// <summary>Writes what has been gathered; the accelerator's.</summary>
    public Action? Gathered { get; set; }

    /// <summary>Afterwards all is written that vCPUs wrote before. Under the machine lock.</summary>
    public void Settle() => Gathered?.Invoke();
}
