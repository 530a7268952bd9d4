using System.Buffers.Binary;

namespace Qkvm.Hw.Scsi;

/// <summary>What a drive says of itself and of its disc. MMC-6, chapters 5 to 7.</summary>
public sealed partial class ScsiCd
{
    // times on the disc begin two seconds before sector 0
    public const int LeadInFrames = 150;

    protected override bool HasBlockDescriptor => false;

    protected override (byte Medium, byte Parameter) ModeHeader
    {
        get
        {
            const byte trayOpen = 0x71, data = 0x01, noDisc = 0x70;
            return (!isAtapi ? (byte)0 : IsTrayOpen ? trayOpen : HasMedium ? data : noDisc, 0);
        }
    }

    /// <summary>Of an ATA packet device: no vital product data, ATAPI 2 in place of a SPC version.</summary>
    protected override int AnswerInquiry(Span<byte> answer)
    {
        const byte atapi2 = 0x21;
        if (!isAtapi) return base.AnswerInquiry(answer);
        if ((Cdb[1] & 1) != 0) return Refuse(ScsiSense.InvalidField);
        const int length = 36;
        if (base.AnswerInquiry(answer) < 0) return -1;
        (answer[2], answer[3], answer[4], answer[7]) = (0, atapi2, length - 5, 0);
        return length;
    }

    protected override int AnswerOwn(Span<byte> answer) => Cdb[0] switch
    {
        ScsiOpcode.ReadCapacity10 => AnswerCapacity(answer),
        ScsiOpcode.ServiceActionIn16 => AnswerServiceAction(answer),
        ScsiOpcode.ReadToc => AnswerToc(answer),
        ScsiOpcode.GetConfiguration => AnswerConfiguration(answer),
        ScsiOpcode.GetEventStatus => AnswerEvent(answer),
        ScsiOpcode.ReadDiscInformation => AnswerDiscInformation(answer),
        ScsiOpcode.MechanismStatus => AnswerMechanism(answer),
        _ => AnswerDvdStructure(answer),
    };

    int AnswerCapacity(Span<byte> answer)
    {
        BinaryPrimitives.WriteUInt32BigEndian(answer, (uint)Math.Clamp(TotalSectors - 1, 0, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(answer[4..], DiscSector);
        return 8;
    }

    int AnswerServiceAction(Span<byte> answer)
    {
        const byte readCapacity = 0x10;
        if ((Cdb[1] & 0x1F) != readCapacity) return Refuse(ScsiSense.InvalidField);
        BinaryPrimitives.WriteInt64BigEndian(answer, Math.Max(TotalSectors - 1, 0));
        BinaryPrimitives.WriteUInt32BigEndian(answer[8..], DiscSector);
        return 32;
    }

    int AnswerMechanism(Span<byte> answer)
    {
        const byte doorOpen = 0x10;
        (answer[1], answer[5]) = (IsTrayOpen ? doorOpen : (byte)0, 1);   // one slot
        return 8;
    }

    /// <summary>One data track, then the lead-out.</summary>
    int AnswerToc(Span<byte> answer)
    {
        const byte leadOut = 0xAA;
        bool asTime = (Cdb[1] & 2) != 0;
        int format = (Cdb[2] & 15) != 0 ? Cdb[2] & 15 : Cdb[9] >> 6, start = Cdb[6], length = 4;
        answer[2] = answer[3] = 1;                                 // first and last track, or session
        switch (format)
        {
            case 0:
                if (start > 1 && start != leadOut) return Refuse(ScsiSense.InvalidField);
                if (start <= 1) AddTrack(answer, 1, 0);
                AddTrack(answer, leadOut, TotalSectors);
                break;
            case 1:
                AddTrack(answer, 1, 0);
                break;
            case 2:                                                // raw: points A0, A1, A2 and the track
                AddPoint(answer, 0xA0, 1, 0, 0);
                AddPoint(answer, 0xA1, 1, 0, 0);
                (byte minutes, byte seconds, byte frames) = Time(TotalSectors);
                AddPoint(answer, 0xA2, minutes, seconds, frames);
                AddPoint(answer, 1, 0, 2, 0);
                break;
            default: return Refuse(ScsiSense.InvalidField);
        }
        BinaryPrimitives.WriteUInt16BigEndian(answer, (ushort)(length - 2));
        return length;

        void AddTrack(Span<byte> toc, byte number, long sector)
        {
            Span<byte> track = toc.Slice(length, 8);
            track[1] = 0x14;                                       // ADR 1, data track
            track[2] = number;
            if (asTime) (track[5], track[6], track[7]) = Time(sector);
            else BinaryPrimitives.WriteUInt32BigEndian(track[4..], (uint)sector);
            length += 8;
        }

        void AddPoint(Span<byte> toc, byte point, byte m, byte s, byte f)
        {
            Span<byte> entry = toc.Slice(length, 11);
            (entry[0], entry[1], entry[3], entry[8], entry[9], entry[10]) = (1, 0x14, point, m, s, f);
            length += 11;
        }
    }

    /// <summary>Minutes, seconds and frames, two seconds after the start of the disc.</summary>
    public static (byte Minutes, byte Seconds, byte Frames) Time(long sector)
    {
        sector += LeadInFrames;
        return ((byte)Math.Min(sector / (75 * 60), 255), (byte)(sector / 75 % 60), (byte)(sector % 75));
    }

    /// <summary>Current and default values alike; nothing can be changed, so that all masks of changeable bits are
    /// 0.</summary>
    protected override int AddPages(Span<byte> answer, int at, byte page, bool isChangeable)
    {
        const byte errorRecovery = 0x01, audioControl = 0x0E, capabilities = 0x2A;
        if (page is not (errorRecovery or audioControl or capabilities or AllPages)) return -1;
        Span<byte> data = Begin(answer, errorRecovery, 6);
        if (!data.IsEmpty) data[3] = 5;                            // retries
        data = Begin(answer, audioControl, 14);                    // MMC-3, "CD audio control mode page"
        if (!data.IsEmpty)
        {
            data[2] = 0x04;                                        // IMMED: reports at once
            (data[8], data[9], data[10], data[11]) = (1, 0xFF, 2, 0xFF);   // left and right channel, loudest
        }
        data = Begin(answer, capabilities, 18);
        if (!data.IsEmpty)
        {
            data[2] = 0x3B;                                        // reads CD-R, CD-RW, DVD-ROM, DVD-R
            data[4] = 0x70;                                        // mode 2 forms, multisession
            data[6] = (byte)(0x29 | (IsLocked ? 2 : 0));           // tray, eject, lock
            BinaryPrimitives.WriteUInt16BigEndian(data[8..], 706); // kB/s: 4x
            BinaryPrimitives.WriteUInt16BigEndian(data[10..], 2);
            BinaryPrimitives.WriteUInt16BigEndian(data[12..], 512);
            BinaryPrimitives.WriteUInt16BigEndian(data[14..], 706);
        }
        return at;

        // The page's place where it is wanted and has values to tell, behind its code and length.
        Span<byte> Begin(Span<byte> answer, byte code, byte length)
        {
            if (page != code && page != AllPages) return default;
            (answer[at], answer[at + 1]) = (code, length);
            Span<byte> whole = answer.Slice(at, length + 2);
            at += length + 2;
            return isChangeable ? default : whole;
        }
    }

    int AnswerConfiguration(Span<byte> answer)
    {
        const byte scsi = 1, atapi = 2;                            // physical interface standards
        int requestType = Cdb[1] & 3, first = BinaryPrimitives.ReadUInt16BigEndian(Cdb[2..]), at = 8;
        if (requestType == 3) return Refuse(ScsiSense.InvalidField);
        bool isDvd = TotalSectors > CdRomSectors;
        if (HasMedium) BinaryPrimitives.WriteUInt16BigEndian(answer[6..], isDvd ? ProfileDvdRom : ProfileCdRom);
        // Profile list, core, removable medium: MMC-4, section 5.3
        AddFeature(answer, 0, 0x03,
            [0x00, 0x10, (byte)(HasMedium && isDvd ? 1 : 0), 0, 0x00, 0x08, (byte)(HasMedium && !isDvd ? 1 : 0), 0]);
        AddFeature(answer, 1, 0x0B, [0, 0, 0, isAtapi ? atapi : scsi, 1, 0, 0, 0]);
        AddFeature(answer, 3, 0x03, [0x29, 0, 0, 0]);              // tray, eject, lock
        BinaryPrimitives.WriteUInt32BigEndian(answer, (uint)(at - 4));
        return at;

        void AddFeature(Span<byte> list, int code, byte flags, ReadOnlySpan<byte> data)
        {
            if (requestType == 2 ? code != first : code < first) return;
            BinaryPrimitives.WriteUInt16BigEndian(list[at..], (ushort)code);
            (list[at + 2], list[at + 3]) = (flags, (byte)data.Length);
            data.CopyTo(list[(at + 4)..]);
            at += 4 + data.Length;
        }
    }

    int AnswerEvent(Span<byte> answer)
    {
        const byte polled = 1, mediaClass = 4, mediaClassMask = 1 << mediaClass, noEventAvailable = 0x80;
        if ((Cdb[1] & polled) == 0) return Refuse(ScsiSense.InvalidField);
        answer[3] = mediaClassMask;                                // classes we know
        if ((Cdb[4] & mediaClassMask) == 0)
        {
            (answer[1], answer[2]) = (2, noEventAvailable);
            return 4;
        }
        (answer[1], answer[2]) = (6, mediaClass);
        answer[4] = _mediaEvent;
        answer[5] = (byte)((IsTrayOpen ? 1 : 0) | (HasMedium ? 2 : 0));
        if (ScsiCdb.AllocationLength(Cdb) > 4) _mediaEvent = 0;
        return 8;
    }

    int AnswerDiscInformation(Span<byte> answer)
    {
        if ((Cdb[1] & 7) != 0) return Refuse(ScsiSense.InvalidField);
        (answer[1], answer[2]) = (32, 0x0E);                       // complete disc, last session complete
        (answer[3], answer[4], answer[5], answer[6]) = (1, 1, 1, 1);
        answer[7] = 0x20;                                          // unrestricted use
        return 34;
    }

    /// <summary>Physical format and copyright of a single-layer DVD-ROM.</summary>
    int AnswerDvdStructure(Span<byte> answer)
    {
        const int firstSector = 0x30000;                           // of a DVD's data area
        if (TotalSectors <= CdRomSectors || Cdb[6] != 0) return Refuse(ScsiSense.IncompatibleMedium);
        switch (Cdb[7])
        {
            case 0:
                BinaryPrimitives.WriteUInt16BigEndian(answer, 2048 + 2);
                (answer[4], answer[5], answer[6]) = (1, 0x0F, 1);
                BinaryPrimitives.WriteUInt32BigEndian(answer[8..], firstSector);
                BinaryPrimitives.WriteUInt32BigEndian(answer[12..],
                    (uint)Math.Min(firstSector + TotalSectors - 1, 0xFFFFFF));
                return 2048 + 4;
            case 1:
                answer[1] = 6;
                return 8;
            default: return Refuse(ScsiSense.InvalidField);
        }
    }
}
