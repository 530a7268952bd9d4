using System.Text;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>The table of processors and interrupts of a machine without ACPI. Spec: Intel MultiProcessor Specification
/// 1.4, chapter 4.</summary>
public static class MpTable
{
    const byte Processor = 0, Bus = 1, IoApic = 2, IoInterrupt = 3, LocalInterrupt = 4;
    const byte Enabled = 1, Boot = 2, Int = 0, Nmi = 1, ExtInt = 3;
    const byte ApicVersion = 0x14, IoApicVersion = 0x20, IsaBus = 0, AllApics = 0xFF;
    const int FloatingSize = 16, IsaIrqs = 16, Timer = 0, Cascade = 2, TimerPin = 2, SumAt = 7, FloatingSumAt = 10;

    /// <summary>The floating pointer, and the configuration table behind it.</summary>
    /// <param name="address">Where it will lie.</param>
    /// <param name="apicIds">Of the processors, the first boots.</param>
    public static byte[] Build(uint address, IReadOnlyList<uint> apicIds)
    {
        var entries = new List<byte[]>();
        byte ioApicId = (byte)(apicIds.Max() + 1);
        for (int i = 0; i < apicIds.Count; i++)
            entries.Add([Processor, (byte)apicIds[i], ApicVersion, (byte)(Enabled | (i == 0 ? Boot : 0)),
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        entries.Add([Bus, IsaBus, .. "ISA   "u8]);
        entries.Add([IoApic, ioApicId, IoApicVersion, Enabled,
            .. BitConverter.GetBytes((uint)AcpiTables.IoApicAddress)]);
        for (byte irq = 0; irq < IsaIrqs; irq++)
            if (irq != Cascade)
                entries.Add([IoInterrupt, Int, 0, 0, IsaBus, irq, ioApicId, irq == Timer ? (byte)TimerPin : irq]);
        entries.Add([LocalInterrupt, ExtInt, 0, 0, IsaBus, 0, AllApics, 0]);
        entries.Add([LocalInterrupt, Nmi, 0, 0, IsaBus, 0, AllApics, 1]);
        byte[] body = [.. entries.SelectMany(entry => entry)];
        byte[] table =
        [
            .. "PCMP"u8, .. BitConverter.GetBytes((ushort)(44 + body.Length)), 4, 0, .. "QKVM    "u8,
            .. Encoding.ASCII.GetBytes("MICROVM".PadRight(12)), 0, 0, 0, 0, 0, 0,
            .. BitConverter.GetBytes((ushort)entries.Count),
            .. BitConverter.GetBytes((uint)AcpiTables.LocalApicAddress), 0, 0, 0, 0, .. body,
        ];
        table[SumAt] = Complement(table);
        byte[] floating = [.. "_MP_"u8, .. BitConverter.GetBytes(address + FloatingSize), 1, 4, 0, 0, 0, 0, 0, 0];
        floating[FloatingSumAt] = Complement(floating);
        return [.. floating, .. table];
    }

    static byte Complement(byte[] bytes) => (byte)-bytes.Sum(static b => b);
}
