namespace Qkvm.Core.Char;

/// <summary>A backend that is a parallel port: the guest's port works its registers. IEEE 1284-1994, compatibility
/// mode.</summary>
public interface IParallelLines
{
    byte Status { get; }
    byte Control { get; set; }
    byte Data { get; set; }

    /// <summary>The data lines are read, instead of driven.</summary>
    void SetInput(bool on);
}
