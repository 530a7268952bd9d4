using System.Buffers.Binary;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Storage;

/// <summary>The packet commands: those of <see cref="ScsiCd"/>, and READ CD. MMC-3 (T10/1363-D), "READ CD command", for
/// a data track in mode 1.</summary>
public sealed partial class AtapiDrive
{
    const byte ReadCdMsf = 0xB9, ReadCd = 0xBE;

    readonly byte[] _rawSector = new byte[CdSector.Length];        // not migrated: full only within a call

    int SectorLength => _parts == CdParts.None ? DiscSector : CdSector.LengthOf(_parts);

    void ExecutePacket(ReadOnlySpan<byte> packet)
    {
        if (packet[0] is ReadCd or ReadCdMsf)
        {
            ReadOnlySpan<byte> testUnitReady = [0, 0, 0, 0, 0, 0];
            if (Disc.Begin(testUnitReady, 0).Status != ScsiStatus.Good) Check();
            else if (packet[0] == ReadCd)
                ReadRaw(packet, BinaryPrimitives.ReadUInt32BigEndian(packet[2..]),
                    (uint)packet[6] << 16 | BinaryPrimitives.ReadUInt16BigEndian(packet[7..]));
            else ReadRawByTime(packet);
            return;
        }
        ScsiCommand command = Disc.Begin(packet, 0);
        if (command.Status != ScsiStatus.Good)
        {
            if (Disc.Sense == ScsiSense.InvalidOpcode) TellUnimplemented(packet[0]);
            Check();
        }
        else if (command.Action == ScsiAction.Read)
            Read((uint)(command.Offset / DiscSector), (int)Math.Min(command.Length / DiscSector, int.MaxValue));
        else if (command.Action == ScsiAction.Answer) Answer(command.Length);
        else Succeed();
    }

    void Answer(long room)
    {
        ReadOnlySpan<byte> answer = Disc.Answer(out ScsiStatus status);
        if (status != ScsiStatus.Good)
        {
            Check();
            return;
        }
        answer.CopyTo(Buffer);
        Reply(answer.Length, (int)Math.Min(room, BufferLength));
    }

    /// <summary>READ CD MSF: from one time on the disc to before another.</summary>
    void ReadRawByTime(ReadOnlySpan<byte> packet)
    {
        long first = SectorAt(packet[3..]), end = SectorAt(packet[6..]);
        if (first < 0 || end < first) Check(ScsiSense.InvalidField);
        else ReadRaw(packet, (uint)first, (uint)(end - first));

        static long SectorAt(ReadOnlySpan<byte> time) => time[1] < 60 && time[2] < 75
            ? (time[0] * 60 + time[1]) * 75 + time[2] - ScsiCd.LeadInFrames : -1;
    }

    void ReadRaw(ReadOnlySpan<byte> packet, uint first, uint count)
    {
        const int anyType = 0, mode1 = 2;
        const byte c2Errors = 0x06, subChannels = 0x07;
        CdParts parts = (CdParts)(packet[9] & 0xF8);
        int type = packet[1] >> 2 & 7, length = CdSector.LengthOf(parts);
        if (length < 0 || (packet[9] & c2Errors) != 0 || (packet[10] & subChannels) != 0)
            Check(ScsiSense.InvalidField);
        else if (type is not (anyType or mode1)) Check(ScsiSense.IllegalMode);
        else if ((ulong)first + count > (ulong)Disc.TotalSectors) Check(ScsiSense.OutOfRange);
        else if (length == 0 || count == 0) Succeed();
        else Read(first, (int)count, length == DiscSector ? CdParts.None : parts);
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
            CdSector.Build(_rawSector, Buffer.AsSpan(n * DiscSector, DiscSector), ScsiCd.Time(first + n));
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
