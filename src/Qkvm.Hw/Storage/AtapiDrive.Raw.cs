namespace Qkvm.Hw.Storage;

/// <summary>READ CD: sectors with more than their user data. MMC-3 (T10/1363-D), "READ CD command", for a data track in
/// mode
/// 1.</summary>
public sealed partial class AtapiDrive
{
    const byte IllegalMode = 0x64;

    readonly byte[] _rawSector = new byte[CdSector.Length];        // not migrated: full only within a call

    int SectorLength => _parts == CdParts.None ? DiscSector : CdSector.LengthOf(_parts);

    void ReadRaw(ReadOnlySpan<byte> packet) =>
        ReadRaw(packet, Word32(packet, 2), (uint)packet[6] << 16 | Word16(packet, 7));

    /// <summary>READ CD MSF: from one time on the disc to before another.</summary>
    void ReadRawByTime(ReadOnlySpan<byte> packet)
    {
        long first = SectorAt(packet[3..]), end = SectorAt(packet[6..]);
        if (first < 0 || end < first) Check(IllegalRequest, InvalidField);
        else ReadRaw(packet, (uint)first, (uint)(end - first));

        static long SectorAt(ReadOnlySpan<byte> time) =>
            time[1] < 60 && time[2] < 75 ? (time[0] * 60 + time[1]) * 75 + time[2] - LeadInFrames : -1;
    }

    void ReadRaw(ReadOnlySpan<byte> packet, uint first, uint count)
    {
        const int AnyType = 0, Mode1 = 2;
        const byte C2Errors = 0x06, SubChannels = 0x07;
        CdParts parts = (CdParts)(packet[9] & 0xF8);
        int type = packet[1] >> 2 & 7, length = CdSector.LengthOf(parts);
        if (length < 0 || (packet[9] & C2Errors) != 0 || (packet[10] & SubChannels) != 0)
            Check(IllegalRequest, InvalidField);
        else if (type is not (AnyType or Mode1)) Check(IllegalRequest, IllegalMode);
        else Read(first, length == 0 ? 0 : count, length == DiscSector ? CdParts.None : parts);
    }

    /// <summary>Makes what was asked for of the sectors whose user data is in the buffer.</summary>
    void ExpandBuffer()
    {
        int sectors = _length / DiscSector, length = SectorLength;
        long first = _sector - sectors;
        // from the end, so that nothing is overwritten unread
        bool grows = length > DiscSector;
        for (int i = 0; i < sectors; i++)
        {
            int n = grows ? sectors - 1 - i : i;
            CdSector.Build(_rawSector, Buffer.AsSpan(n * DiscSector, DiscSector), Time(first + n));
            CdSector.Select(_rawSector, _parts).CopyTo(Buffer.AsSpan(n * length));
        }
        _length = sectors * length;
    }

    /// <summary>A piece of a raw transfer to memory is in the buffer.</summary>
    void PassRawDma()
    {
        ExpandBuffer();
        _rawTarget.Slice(_rawDone, _length).CopyFrom(Buffer.AsSpan(0, _length));
        _rawDone += _length;
        if (_left > 0) { ReadChunk(); return; }
        _rawTarget = default;
        EndDma(DmaLength);
        Succeed();
    }
}
