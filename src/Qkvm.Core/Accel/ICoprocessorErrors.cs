namespace Qkvm.Core.Accel;

/// <summary>How a PC's processors tell of x87 errors while CR0.NE is clear: FERR# and IGNNE#. Intel SDM vol. 1,
/// appendix D. From any thread; the implementation takes the machine lock.</summary>
public interface ICoprocessorErrors
{
    /// <summary>FERR#.</summary>
    void SetError(bool level);

    /// <summary>IGNNE#: a processor that tells of an error goes on nevertheless.</summary>
    bool IsIgnored { get; }
}
