using System.Buffers.Binary;

namespace Qkvm.Core.Pci;

/// <summary>An expansion ROM image. Spec: PCI Firmware 3.3, section 5.1.</summary>
public static class OptionRom
{
    const int HeaderLength = 0x1C, PcirPointer = 0x18, LengthField = 2, ChecksumByte = 6, Block = 512;
    const int VendorField = 4, DeviceField = 6, PcirLength = 0x18;

    static ReadOnlySpan<byte> Pcir => "PCIR"u8;

    /// <summary>Makes a ROM that was built for a sister of the function its own: firmware compares the numbers, and
    /// sums up the image.</summary>
    public static void Adopt(Span<byte> rom, PciIdentity identity)
    {
        if (rom.Length < HeaderLength || rom[0] != 0x55 || rom[1] != 0xAA) return;
        int pcir = BinaryPrimitives.ReadUInt16LittleEndian(rom[PcirPointer..]);
        if (pcir + PcirLength > rom.Length || !rom.Slice(pcir, Pcir.Length).SequenceEqual(Pcir)) return;
        BinaryPrimitives.WriteUInt16LittleEndian(rom[(pcir + VendorField)..], identity.VendorId);
        BinaryPrimitives.WriteUInt16LittleEndian(rom[(pcir + DeviceField)..], identity.DeviceId);
        int length = Math.Min(rom[LengthField] * Block, rom.Length);
        byte sum = 0;
        foreach (byte one in rom[..length]) sum += one;
        rom[ChecksumByte] -= sum;
    }
}
