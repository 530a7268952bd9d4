using Qkvm.Core.Accel;

namespace Qkvm.Accel.Tests;

/// <summary>A local APIC without registers, for tests of what interrupts do to a vCPU.</summary>
abstract class FakeApic : ILocalApic
{
    public abstract bool HasInterrupt { get; }
    public abstract int Acknowledge();
    public virtual ulong BaseMsr => 0xFEE00900;
    public bool WriteBaseMsr(ulong value) => false;
    public uint ReadMmio(uint offset) => 0;
    public void WriteMmio(uint offset, uint value) { }
    public bool ReadMsr(uint msr, out ulong value) { value = 0; return false; }
    public bool WriteMsr(uint msr, ulong value) => false;
    public virtual void Inject(byte vector) { }
    public byte Cr8 { get; set; }
    public ulong TscDeadline { get; set; }
}
