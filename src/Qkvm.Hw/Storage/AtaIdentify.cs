using System.Buffers.Binary;

namespace Qkvm.Hw.Storage;

/// <summary>Words of IDENTIFY (PACKET) DEVICE data. ATA/ATAPI-7 volume 1, sections 6.17 and 6.18.</summary>
static class AtaIdentify
{
    public static void Set(Span<byte> data, int word, int value) =>
        BinaryPrimitives.WriteUInt16LittleEndian(data[(word * 2)..], (ushort)value);

    /// <summary>ATA strings: the first character in the high byte, padded with spaces.</summary>
    public static void SetText(Span<byte> data, int word, int words, string text)
    {
        for (int i = 0; i < words * 2; i++)
            data[word * 2 + (i ^ 1)] = i < text.Length && text[i] is >= ' ' and <= '~' ? (byte)text[i] : (byte)' ';
    }

    /// <summary>Byte 511 makes the sum of all bytes zero.</summary>
    public static void SetChecksum(Span<byte> data)
    {
        byte sum = 0;
        foreach (byte b in data[..511]) sum += b;
        data[511] = (byte)-sum;
    }

    /// <summary>Words 63, 64 and 88: modes that are supported, and the one that is selected.</summary>
    public static void SetTransferModes(Span<byte> data, byte mode)
    {
        const int MultiwordDma = 63, UltraDma = 88, AllMultiword = 0x07, AllUltra = 0x3F;
        Set(data, MultiwordDma, AllMultiword | ((mode & 0xF8) == 0x20 ? 0x100 << (mode & 7) : 0));
        Set(data, UltraDma, AllUltra | ((mode & 0xF8) == 0x40 ? 0x100 << (mode & 7) : 0));
        Set(data, 53, 0x07);                                       // words 54-58, 64-70 and 88 are valid
        Set(data, 64, 0x03);                                       // PIO modes 3 and 4
        for (int word = 65; word <= 68; word++) Set(data, word, 120);   // cycle times in nanoseconds
    }
}

public sealed partial class AtaDrive
{
    void WriteIdentify(Span<byte> data)
    {
        long sectors = TotalSectors;
        long capacity = (long)Cylinders * DefaultHeads * DefaultSectors;
        AtaIdentify.Set(data, 0, 0x0040);                          // fixed drive
        AtaIdentify.Set(data, 1, Cylinders);
        AtaIdentify.Set(data, 3, DefaultHeads);
        AtaIdentify.Set(data, 4, SectorSize * DefaultSectors);
        AtaIdentify.Set(data, 5, SectorSize);
        AtaIdentify.Set(data, 6, DefaultSectors);
        AtaIdentify.SetText(data, 10, 10, _options.Serial);
        AtaIdentify.Set(data, 20, 3);
        AtaIdentify.Set(data, 21, 512);                            // buffer, in sectors
        AtaIdentify.Set(data, 22, 4);
        AtaIdentify.SetText(data, 23, 4, _options.Version);
        AtaIdentify.SetText(data, 27, 20, _options.Model);
        AtaIdentify.Set(data, 47, 0x8000 | MaxMultiple);
        AtaIdentify.Set(data, 48, 1);                              // 32-bit PIO
        AtaIdentify.Set(data, 49, 0x0B00);                         // DMA, LBA, IORDY
        AtaIdentify.Set(data, 51, 0x200);
        AtaIdentify.Set(data, 52, 0x200);
        AtaIdentify.Set(data, 54, Cylinders);
        AtaIdentify.Set(data, 55, _heads);
        AtaIdentify.Set(data, 56, _sectorsPerTrack);
        AtaIdentify.Set(data, 57, (int)capacity);
        AtaIdentify.Set(data, 58, (int)(capacity >> 16));
        if (_multiple > 0) AtaIdentify.Set(data, 59, 0x100 | _multiple);
        long lba28 = Math.Min(sectors, (1 << 28) - 1);
        AtaIdentify.Set(data, 60, (int)lba28);
        AtaIdentify.Set(data, 61, (int)(lba28 >> 16));
        AtaIdentify.SetTransferModes(data, _transferMode);
        bool isSerial = Port is IQueuedIdePort;
        if (isSerial)
        {
            AtaIdentify.Set(data, 75, QueueDepth - 1);
            AtaIdentify.Set(data, 76, 1 << 8 | 1 << 1);            // queued commands, 1.5 Gbit/s
        }
        AtaIdentify.Set(data, 80, 0xF0);                           // ATA-4 to ATA-7
        AtaIdentify.Set(data, 81, 0x16);
        AtaIdentify.Set(data, 82, 1 << 14 | 1 << 5 | 1 << 3 | 1);  // NOP, write cache, power management, SMART
        AtaIdentify.Set(data, 83, 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10);   // FLUSH CACHE (EXT), 48-bit addresses
        int logs = isSerial ? 1 << 5 : 0;
        AtaIdentify.Set(data, 84, 1 << 14 | 1 << 6 | logs | (_options.WorldWideName != 0 ? 1 << 8 : 0));   // FUA
        AtaIdentify.Set(data, 85, 1 << 14 | (Backend.WriteCache ? 1 << 5 : 0) | 1 << 3 | (_smartEnabled ? 1 : 0));
        AtaIdentify.Set(data, 86, 1 << 13 | 1 << 12 | 1 << 10);
        AtaIdentify.Set(data, 87, 1 << 14 | 1 << 6 | logs | (_options.WorldWideName != 0 ? 1 << 8 : 0));
        if (!isSerial) AtaIdentify.Set(data, 93, 1 | 1 << 14 | 0x2000);   // 80-wire cable, passed its diagnostic
        for (int i = 0; i < 4; i++) AtaIdentify.Set(data, 100 + i, (int)(sectors >> (i * 16)));
        if (_options.PhysicalBlock > SectorSize)
            AtaIdentify.Set(data, 106, 0x6000
                | System.Numerics.BitOperations.Log2((uint)_options.PhysicalBlock / SectorSize));
        for (int i = 0; i < 4; i++) AtaIdentify.Set(data, 108 + i, (int)(_options.WorldWideName >> (48 - i * 16)));
        AtaIdentify.Set(data, 217, _options.RotationRate);
    }
}
