using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Hw.Storage;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Isa;

/// <summary>A PC from before PCI: the chips of the PC/AT, two IDE channels, no ACPI, no I/O APIC.</summary>
/// <remarks>Deviations: no network card. Spec: IBM PC/AT Technical Reference, "I/O
/// Address Map".</remarks>
public sealed class IsaPcBoard : Board
{
    const string DefaultFirmware = "bios.bin";                     // the larger one needs the PC's host bridge

    static readonly (ulong Command, ulong Control, int Irq)[] IdeChannels = [(0x1F0, 0x3F6, 14), (0x170, 0x376, 15)];

    static readonly PcMemoryPlan Plan = PcMemoryPlan.I440Fx with { HasHostBridge = false };

    readonly IsaChips _chips;

    /// <param name="memory">Its RAM; disposed of with the board.</param>
    public IsaPcBoard(BoardParts parts, MachineRam memory)
        : base(parts, new PcMemory(memory, FirmwareOf(parts), parts.Lock, Plan), new InterruptPlan(IoApics: 0))
    {
        using (Memory.Batch())
        using (Ports.Batch())
        {
            var isa = new QBus("isa.0", BusKind.Isa);
            HoldBus("isabus-bridge", isa, "PNP0A00");
            for (int i = 0; i < IdeChannels.Length; i++)
            {
                (ulong command, ulong control, int irq) = IdeChannels[i];
                var ide = new IsaIde($"ide.{i}", i, Irq(irq));
                ide.Map(command, control, (at, region) => Ports.Map(at, region));
                Own(IsaIde.Model.Name, isa, ide, ide.NewBus());
            }
            _chips = new IsaChips(this, isa, hpetRoutes: null, hasFloppies: true);
        }
        MakeCpus(_chips.Coprocessor);
        Firmware.AddNumbers(SleepStates);
        MakeDevices();
        Firmware.AddRest(BootOrder);
        _chips.DescribeInCmos(this);
    }

    public override PciBus? Pci => null;

    public override void SetBootOrder(string letters) => _chips.SetBootOrder(letters);

    protected override void OnReset(bool isFirst)
    {
        Layout.ReloadFirmware();
        _chips.OnReset(isFirst);
    }

    static byte[] FirmwareOf(BoardParts parts)
    {
        FirmwareConfig firmware = parts.Config.Firmware;
        return PcParts.Bios(parts with { Config = parts.Config with { Firmware = firmware
            with { Bios = firmware.Bios ?? DefaultFirmware } } });
    }
}
