using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tests;

/// <summary>An interrupt at a time, of vector 40h.</summary>
sealed class InterruptLine : ILocalApic
{
    int _pending;

    public void Raise() => Volatile.Write(ref _pending, 1);
    public bool HasInterrupt => Volatile.Read(ref _pending) != 0;
    public int Acknowledge() => Interlocked.Exchange(ref _pending, 0) != 0 ? 0x40 : -1;
    public ulong BaseMsr => 0xFEE00900;
    public bool WriteBaseMsr(ulong value) => false;
    public uint ReadMmio(uint offset) => 0;
    public void WriteMmio(uint offset, uint value) { }
    public bool ReadMsr(uint msr, out ulong value) { value = 0; return false; }
    public bool WriteMsr(uint msr, ulong value) => false;
    public byte Cr8 { get; set; }
    public ulong TscDeadline { get; set; }
}
