using Qkvm.Core.Accel;
using Qkvm.Core.State;

namespace Qkvm.Accel.Kvm;

// SAFETY: structures lie on the stack for the time of the call.
/// <summary>The kernel's 8259 pair and IOAPIC; the local APICs belong to the vCPUs.</summary>
sealed unsafe class KvmIrqChip : IKernelIrqChip
{
    const int Chips = 3;                                           // master, slave, IOAPIC
    static readonly string[] Names = ["pic-master", "pic-slave", "ioapic"];

    readonly int _machine;
    readonly KvmIrqChipState[] _powerOn = new KvmIrqChipState[Chips];

    public KvmIrqChip(int machine)
    {
        _machine = machine;
        KvmApi.Call(machine, KvmApi.CreateIrqChip, 0, "cannot create the interrupt controllers");
        for (int chip = 0; chip < Chips; chip++) _powerOn[chip] = Get(chip);
    }

    public void SetGsi(int gsi, bool level)
    {
        var line = new KvmIrqLevel { Irq = (uint)gsi, Level = level ? 1u : 0 };
        KvmApi.Call(_machine, KvmApi.IrqLine, &line, $"cannot drive interrupt {gsi}");
    }

    public void SendMsi(ulong address, uint data)
    {
        var message = new KvmMsi { AddressLow = (uint)address, AddressHigh = (uint)(address >> 32), Data = data };
        // Fails where no CPU takes it, as a message to nobody does on a machine.
        Host.Libc.ioctl(_machine, KvmApi.SignalMsi, &message);
    }

    public void Reset()
    {
        for (int chip = 0; chip < Chips; chip++) Set(_powerOn[chip]);
    }

    public void Exchange(StateStream state)
    {
        for (int chip = 0; chip < Chips; chip++)
        {
            KvmIrqChipState now = Get(chip);
            state.Block(Names[chip], new Span<byte>(now.Registers, 512));
            if (state.IsLoading) Set(now);
        }
    }

    KvmIrqChipState Get(int chip)
    {
        var state = new KvmIrqChipState { Chip = (uint)chip };
        KvmApi.Call(_machine, KvmApi.GetIrqChip, &state, $"cannot read {Names[chip]}");
        return state;
    }

    void Set(KvmIrqChipState state) =>
        KvmApi.Call(_machine, KvmApi.SetIrqChip, &state, $"cannot write {Names[state.Chip]}");
}
