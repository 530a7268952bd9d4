using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tests;

/// <summary>An interrupt at a time, of vector 40h.</summary>
sealed class InterruptLine : FakeApic
{
    int _pending;

    public void Raise() => Volatile.Write(ref _pending, 1);
    public override bool HasInterrupt => Volatile.Read(ref _pending) != 0;
    public override int Acknowledge() => Interlocked.Exchange(ref _pending, 0) != 0 ? 0x40 : -1;
}
