using Qkvm.Core.Accel;
using Qkvm.Core.State;

namespace Qkvm.Testing;

/// <summary>Interrupt controllers of an accelerator that only listen: they count what reaches them.</summary>
public sealed class RecordingIrqChip : IKernelIrqChip
{
    /// <summary>Changes of wires and messages since the beginning.</summary>
    public int Events { get; private set; }

    public void SetGsi(int gsi, bool level) => Events++;
    public void SendMsi(ulong address, uint data) => Events++;
    public void Exchange(StateStream state) { }
    public void Reset() { }
}
