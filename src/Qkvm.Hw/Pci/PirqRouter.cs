using Qkvm.Core.Irq;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>Routes the PIRQ inputs of a bridge to ISA interrupts, by a byte of its configuration space for each. Spec:
/// Intel 82371SB (PIIX3), order 290550, section 2.2.10 "PIRQRC"; ICH9, order 316972, section 13.1.12, is the
/// same.</summary>
public sealed class PirqRouter
{
    const byte Disabled = 0x80, Irq = 0x0F, Writable = Disabled | Irq;
    const int Routable = 0b1101_1110_1111_1000;                    // IRQ 3-7, 9-12, 14, 15; the others are reserved

    readonly PciConfig _config;
    readonly int[] _registers;
    readonly IrqLine[] _irqs;
    readonly bool[] _inputs;

    /// <param name="registers">Where each input's byte stands.</param>
    /// <param name="irqs">ISA interrupts 0 to 15, wires of its own.</param>
    public PirqRouter(PciConfig config, int[] registers, IrqLine[] irqs)
    {
        (_config, _registers, _irqs) = (config, registers, irqs);
        _inputs = new bool[registers.Length];
        foreach (int register in registers) config.Define(register, Disabled, Writable);
    }

    /// <summary>Level of an input; active means asserted.</summary>
    public bool this[int input]
    {
        get => _inputs[input];
        set
        {
            _inputs[input] = value;
            Drive();
        }
    }

    /// <summary>The ISA interrupt of an input, or -1.</summary>
    public int RouteOf(int input)
    {
        byte route = _config[_registers[input]];
        return (route & Disabled) == 0 && (Routable >> (route & Irq) & 1) != 0 ? route & Irq : -1;
    }

    /// <summary>Makes the wires follow inputs and registers.</summary>
    public void Drive()
    {
        int levels = Levels();
        for (int irq = 0; irq < _irqs.Length; irq++) _irqs[irq].Set((levels >> irq & 1) != 0);
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < _inputs.Length; i++) state.Field($"pirq{i}", ref _inputs[i]);
        if (!state.IsLoading) return;
        int levels = Levels();
        for (int irq = 0; irq < _irqs.Length; irq++) _irqs[irq].Restore((levels >> irq & 1) != 0);
    }

    int Levels()
    {
        int levels = 0;
        for (int i = 0; i < _inputs.Length; i++)
            if (_inputs[i] && RouteOf(i) is >= 0 and var irq) levels |= 1 << irq;
        return levels;
    }
}
