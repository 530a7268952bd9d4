using Qkvm.Core.Irq;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>PCI-to-ISA bridge: routes PIRQ A to D to the ISA interrupts and holds the reset control register. Spec:
/// Intel 82371SB (PIIX3), order 290550, sections 2.2.10 "PIRQRC" and 2.5.6.1 "RC"; other registers only keep what is
/// written.</summary>
public sealed class Piix3 : PciDevice
{
    public static readonly PciIdentity Chip = new(0x8086, 0x7000, 0x060100, HasInterruptPin: false);

    public const int Inputs = 4;

    // Configuration registers: (offset, reset value)
    const int Pirqrc = 0x60;
    static readonly (int Offset, byte Reset)[] Kept =
    [
        (0x4C, 0x4D), (0x4E, 0x03), (0x4F, 0x00), (0x69, 0x02), (0x6A, 0x00), (0x70, 0x80), (0x71, 0x80), (0x76, 0x0C),
        (0x77, 0x0C), (0x78, 0x02), (0x79, 0x00), (0x80, 0x00), (0x82, 0x00), (0xA0, 0x08), (0xA2, 0x00), (0xA3, 0x00),
        (0xA4, 0x00), (0xA5, 0x00), (0xA6, 0x00), (0xA7, 0x00), (0xA8, 0x0F), (0xAA, 0x00), (0xAC, 0x00), (0xAE, 0x00),
    ];
    const byte SystemReset = 2;                                    // of the reset control register

    readonly PirqRouter _router;

    /// <param name="irqs">ISA interrupts 0 to 15, wires of its own.</param>
    /// <param name="reset">Asks for a reset of the machine.</param>
    public Piix3(IrqLine[] irqs, Action reset) : base(Chip, "PIIX3")
    {
        ResetControl = new ResetControl(SystemReset, reset);
        IsMultifunction = true;
        Config.Define(PciConfig.HeaderType, 0x80);
        Config.Define16(PciConfig.Command, PciConfig.IoSpace | PciConfig.MemorySpace | PciConfig.BusMaster,
            PciConfig.SerrEnable);
        Config.Define16(PciConfig.Status, 0x0200);
        foreach (var (offset, value) in Kept) Config.Define(offset, value, 0xFF);
        _router = new PirqRouter(Config, [.. Enumerable.Range(Pirqrc, Inputs)], irqs);
    }

    /// <summary>Port CF9h.</summary>
    public ResetControl ResetControl { get; }

    /// <summary>"Interrupt steering" of the slots' pins as boards wire it: rotated by one a slot, from slot 1
    /// on.</summary>
    public static int RouteSlot(int slot, int pin) => (pin + slot - 1) & 3;

    /// <summary>PIRQ A to D; active means asserted.</summary>
    public void SetInput(int input, bool active) => _router[input] = active;

    /// <summary>The ISA interrupt of an input, or -1.</summary>
    public int RouteOf(int input) => _router.RouteOf(input);

    protected override void ResetDevice()
    {
        ResetControl.Reset();
        _router.Drive();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        ResetControl.Exchange(state);
        _router.Exchange(state);
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if (offset < Pirqrc + Inputs && offset + size > Pirqrc) _router.Drive();
    }
}
