using System.Numerics;

namespace Qkvm.Hw.Storage;

/// <summary>What a flash tells of itself: the query of JEDEC JESD68, with the primary table of Intel's command set
/// behind it. The values are those of QEMU's chip.</summary>
static class FlashQuery
{
    const int Identification = 0x10, Voltages = 0x1B, Geometry = 0x27, Primary = 0x31, Length = 0x52;

    /// <summary>By offset.</summary>
    /// <param name="size">Bytes of the chip: whole sectors.</param>
    public static byte[] Table(ulong size)
    {
        var table = new byte[Length];
        int lastSector = (int)(size / Pflash.SectorSize) - 1;

        // "QRY", command set 0001h and where its table is; no other command set
        Put(Identification, [(byte)'Q', (byte)'R', (byte)'Y', 0x01, 0x00, Primary, 0x00]);

        // 4.5 to 5.5 V, no programming voltage; typical times: 2^7 us a byte and a buffer, 2^10 ms a sector; at most
        // 2^4 times as much
        Put(Voltages, [0x45, 0x55, 0x00, 0x00, 0x07, 0x07, 0x0A, 0x00, 0x04, 0x04, 0x04, 0x00]);

        // 2^n bytes, 8 and 16 bits wide, a buffer of 2^n bytes, one region of equal sectors: how many less one, and
        // their size in units of 256 bytes
        Put(Geometry, [(byte)BitOperations.Log2(BitOperations.RoundUpToPowerOf2(size)), 0x02, 0x00,
            (byte)BitOperations.Log2(Pflash.BufferSize), 0x00, 0x01, (byte)lastSector, (byte)(lastSector >> 8),
            (byte)(Pflash.SectorSize >> 8), Pflash.SectorSize >> 16]);

        // "PRI", version 1.0, no optional feature; one protection field
        Put(Primary, [(byte)'P', (byte)'R', (byte)'I', (byte)'1', (byte)'0']);
        table[0x3F] = 0x01;
        return table;

        void Put(int at, ReadOnlySpan<byte> values) => values.CopyTo(table.AsSpan(at));
    }
}
