using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Intc;

/// <summary>The PC's two 8259A in cascade: the slave's INT is the master's input 2.</summary>
/// <remarks>Ports: <see cref="Master"/> 20h-21h, <see cref="Slave"/> A0h-A1h, <see cref="EdgeLevelControl"/>
/// 4D0h-4D1h.</remarks>
public sealed class I8259Pair : IDevice, IInterruptController
{
    readonly long[] _counts = new long[16];                        // not migrated: for people

    const int CascadeInput = 2, SpuriousInput = 7;
    const byte MasterEdgeLevelWritable = 0xF8, SlaveEdgeLevelWritable = 0xDE; // not IRQ 0-2, 8, 13

    /// <param name="intr">INTR to the processors.</param>
    public I8259Pair(IrqLine intr)
    {
        Master = new I8259("i8259-master", intr, MasterEdgeLevelWritable);
        Slave = new I8259("i8259-slave", new IrqLine("i8259-cascade", level => Master.SetIrq(CascadeInput, level)),
            SlaveEdgeLevelWritable);
        EdgeLevelControl = new EdgeLevelControlRegisters(this);
    }

    public string Name => "i8259";
    public I8259 Master { get; }
    public I8259 Slave { get; }
    public IRegisterBank EdgeLevelControl { get; }

    public void Reset()
    {
        Slave.Reset();
        Master.Reset();
    }

    /// <summary>ISA IRQ 0 to 15; IRQ 2 is the cascade and not connected.</summary>
    public void SetIrq(int irq, bool level)
    {
        if (irq == CascadeInput) return;
        if (level && !(irq < 8 ? Master : Slave).Input(irq & 7)) _counts[irq]++;
        if (irq < 8) Master.SetIrq(irq, level);
        else Slave.SetIrq(irq - 8, level);
    }

    /// <summary>The processor's interrupt acknowledge cycles: the vector. A request that has gone gives IRQ 7 or
    /// 15.</summary>
    public int Acknowledge()
    {
        int input = Master.HighestRequest();
        if (input < 0) return Master.VectorBase + SpuriousInput;
        Master.BeginService(input);
        if (input != CascadeInput) return Master.VectorBase + input;
        int slaveInput = Slave.HighestRequest();
        if (slaveInput < 0) return Slave.VectorBase + SpuriousInput;
        Slave.BeginService(slaveInput);
        return Slave.VectorBase + slaveInput;
    }

    public string ChipName => "isa-i8259";
    public IReadOnlyList<long> Counts => _counts;
    public string Describe() => Slave.Describe(1) + Master.Describe(0);

    public void Exchange(StateStream state)
    {
        Master.Exchange(state.Group("master"));
        Slave.Exchange(state.Group("slave"));
    }

    sealed class EdgeLevelControlRegisters(I8259Pair pair) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => Chip(offset).EdgeLevel;
        public void Write(ulong offset, int size, ulong value) => Chip(offset).EdgeLevel = (byte)value;
        I8259 Chip(ulong offset) => offset == 0 ? pair.Master : pair.Slave;
    }
}
