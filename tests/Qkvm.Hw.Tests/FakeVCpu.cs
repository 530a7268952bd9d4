using Qkvm.Core.Accel;
using Qkvm.Core.State;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests;

/// <summary>A processor that only notes the signals it gets; its TSC runs at 2 GHz of the fake clock.</summary>
public sealed class FakeVCpu(int index, FakeClock clock) : IVCpu
{
    public List<string> Signals { get; } = [];
    public int Wakeups { get; private set; }
    public int Index { get; } = index;
    public ILocalApic? Apic { get; set; }
    public bool HasTscDeadline { get; set; } = true;
    public bool IsHalted => false;
    public ulong TimeStampCounter => (ulong)clock.Nanoseconds * 2;
    public ulong ReferenceTime => (ulong)clock.Nanoseconds / 100;
    public ulong TimeStampHertz => 2_000_000_000;
    public ulong InstructionPointer => 0;

    public void InterruptPending() => Wakeups++;
    public void Signal(CpuSignal signal, byte vector = 0) =>
        Signals.Add(signal == CpuSignal.StartUp ? $"StartUp {vector:x}" : signal.ToString());
    public VCpuExit Run() => new(ExitReason.Kicked);
    public void Kick() { }
    public void Reset() { }
    public void Exchange(StateStream state) { }
    public CpuRegisters ReadRegisters() => new();
    public void WriteRegisters(CpuRegisters registers) { }
    public bool TryTranslate(ulong linear, out ulong physical) { physical = linear; return true; }
}
