using System.Buffers.Binary;
using System.Numerics;

namespace Qkvm.Hw.Scsi;

/// <summary>Capacity, limits and mode pages.</summary>
public sealed partial class ScsiDisk
{
    // Vital product data, SBC-3 section 6.6
    const byte BlockLimits = 0xB0, BlockCharacteristics = 0xB1, LogicalBlockProvisioning = 0xB2;

    // Mode pages, SBC-3 section 6.5
    const byte ReadWriteRecovery = 0x01, RigidGeometry = 0x04, FlexibleGeometry = 0x05, Caching = 0x08,
        WriteCacheEnable = 0x04;
    const int MostPages = 256;                                     // bytes of all of them

    const uint MostUnmapped = 255;                                 // ranges of one command: what parameters hold

    protected override ReadOnlySpan<byte> VitalPages => [BlockLimits, BlockCharacteristics, LogicalBlockProvisioning];

    protected override (byte Medium, byte Parameter) ModeHeader
    {
        get
        {
            const byte writeProtected = 0x80, dpoFua = 0x10;
            return (0, (byte)((Backend.IsReadOnly ? writeProtected : 0) | (Options.HasDpoFua ? dpoFua : 0)));
        }
    }

    protected override int AnswerOwn(Span<byte> answer) =>
        Cdb[0] == ScsiOpcode.ReadCapacity10 ? AnswerCapacity10(answer) : AnswerServiceAction(answer);

    int AnswerCapacity10(Span<byte> answer)
    {
        BinaryPrimitives.WriteUInt32BigEndian(answer, (uint)Math.Min(Blocks - 1, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(answer[4..], (uint)Options.BlockSize);
        return 8;
    }

    /// <summary>READ CAPACITY (16), SBC-3 section 5.16; no other action is known.</summary>
    int AnswerServiceAction(Span<byte> answer)
    {
        const byte readCapacity = 0x10, provisioning = 0x80;
        if ((Cdb[1] & 0x1F) != readCapacity) return Refuse(ScsiSense.InvalidField);
        BinaryPrimitives.WriteUInt64BigEndian(answer, Blocks - 1);
        BinaryPrimitives.WriteUInt32BigEndian(answer[8..], (uint)Options.BlockSize);
        answer[13] = (byte)BitOperations.Log2((uint)(Options.PhysicalBlockSize / Options.BlockSize));
        answer[14] = Options.DiscardGranularity != 0 ? provisioning : (byte)0;
        return 32;
    }

    protected override int AddVitalData(byte code, Span<byte> page)
    {
        switch (code)
        {
            case BlockLimits:
                AddLimits(page);
                return 60;
            case BlockCharacteristics:
                BinaryPrimitives.WriteUInt16BigEndian(page, Options.RotationRate);
                return 60;
            case LogicalBlockProvisioning:
                const byte unmap = 0x80, writeSame16 = 0x40, writeSame10 = 0x20, thin = 2;
                bool isThin = Options.DiscardGranularity != 0;
                (page[1], page[2]) = (unmap | writeSame16 | writeSame10, isThin ? thin : (byte)0);
                return 4;
            default: return -1;
        }
    }

    /// <summary>SBC-3, section 6.6.4; in blocks.</summary>
    void AddLimits(Span<byte> page)
    {
        const byte writeSameNonZero = 1;
        uint size = (uint)Options.BlockSize;
        uint most = (uint)Math.Min(Options.MaxIo / size, uint.MaxValue);
        page[0] = writeSameNonZero;
        BinaryPrimitives.WriteUInt16BigEndian(page[2..], (ushort)(Options.MinIo / size));
        BinaryPrimitives.WriteUInt32BigEndian(page[4..], most);
        BinaryPrimitives.WriteUInt32BigEndian(page[8..], Options.OptimalIo / size);
        BinaryPrimitives.WriteUInt32BigEndian(page[16..], (uint)Math.Min(Options.MaxUnmap / size, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(page[20..], MostUnmapped);
        BinaryPrimitives.WriteUInt32BigEndian(page[24..], Options.DiscardGranularity / size);
        BinaryPrimitives.WriteUInt64BigEndian(page[32..], most);
    }

    protected override int AddPages(Span<byte> answer, int at, byte page, bool isChangeable)
    {
        if (page is not (ReadWriteRecovery or RigidGeometry or FlexibleGeometry or Caching or AllPages)) return -1;
        if (page is ReadWriteRecovery or AllPages)
        {
            const byte automaticReallocation = 0x80;
            (answer[at], answer[at + 1]) = (ReadWriteRecovery, 10);
            if (!isChangeable) answer[at + 2] = automaticReallocation;
            at += 12;
        }
        if (page is RigidGeometry or AllPages) at = AddGeometry(answer, at, isChangeable);
        if (page is FlexibleGeometry or AllPages) at = AddFlexibleGeometry(answer, at, isChangeable);
        if (page is Caching or AllPages)
        {
            (answer[at], answer[at + 1]) = (Caching, 18);
            if (isChangeable || Backend.WriteCache) answer[at + 2] = WriteCacheEnable;
            at += 20;
        }
        return at;
    }

    // What SeaBIOS and others take for a geometry, as QEMU's disks have it

    const int Heads = 16, Sectors = 63, MostCylinders = 16383, RotationRate = 5400;

    int Cylinders => (int)Math.Clamp(Backend.Length / 512 / (Heads * Sectors), 2, MostCylinders);

    /// <summary>SBC, "Rigid disk geometry mode page".</summary>
    int AddGeometry(Span<byte> answer, int at, bool isChangeable)
    {
        const int stepRate = 200;                                  // units of 100 ns
        Span<byte> page = answer.Slice(at, 24);
        (page[0], page[1]) = (RigidGeometry, 22);
        if (isChangeable) return at + page.Length;
        int cylinders = Cylinders;
        foreach (int field in (ReadOnlySpan<int>)[2, 6, 9])        // all, and those with other currents: none
            (page[field], page[field + 1], page[field + 2]) = (0, (byte)(cylinders >> 8), (byte)cylinders);
        page[5] = Heads;
        BinaryPrimitives.WriteUInt16BigEndian(page[12..], stepRate);
        page[14..17].Fill(0xFF);                                   // no landing zone
        BinaryPrimitives.WriteUInt16BigEndian(page[20..], RotationRate);
        return at + page.Length;
    }

    /// <summary>SBC, "Flexible disk mode page".</summary>
    int AddFlexibleGeometry(Span<byte> answer, int at, bool isChangeable)
    {
        const ushort kilobits = 5000;                              // a second
        Span<byte> page = answer.Slice(at, 32);
        (page[0], page[1]) = (FlexibleGeometry, 30);
        if (isChangeable) return at + page.Length;
        BinaryPrimitives.WriteUInt16BigEndian(page[2..], kilobits);
        (page[4], page[5]) = (Heads, Sectors);
        BinaryPrimitives.WriteUInt16BigEndian(page[6..], (ushort)Options.BlockSize);
        foreach (int field in (ReadOnlySpan<int>)[8, 10, 12])      // all, and those with other currents: none
            BinaryPrimitives.WriteUInt16BigEndian(page[field..], (ushort)Cylinders);
        BinaryPrimitives.WriteUInt16BigEndian(page[14..], 1);      // a step takes 100 us,
        page[16] = 1;                                              // its pulse 1 us,
        BinaryPrimitives.WriteUInt16BigEndian(page[17..], 1);      // the heads settle in 100 us,
        (page[19], page[20]) = (1, 1);                             // the motor starts and stops in 0.1 s
        BinaryPrimitives.WriteUInt16BigEndian(page[28..], RotationRate);
        return at + page.Length;
    }
}
