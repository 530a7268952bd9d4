namespace Qkvm.Core.Accel;

/// <summary>An accelerator that can run one instruction at a time: `singlestep`.</summary>
public interface ISingleStepping
{
    /// <summary>From the next time that a vCPU begins to run.</summary>
    bool OneInstruction { get; set; }
}
