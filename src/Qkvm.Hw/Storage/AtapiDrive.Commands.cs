using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Hw.Storage;

/// <summary>The packet commands. MMC-4 (T10/1545-D) and SPC-3; codes are named there.</summary>
public sealed partial class AtapiDrive
{
    // Sense keys and additional sense codes
    const byte NoSense = 0, NotReady = 2, MediumError = 3, IllegalRequest = 5, UnitAttention = 6, AbortedCommand = 11;
    const byte InvalidOpcode = 0x20, LbaOutOfRange = 0x21, InvalidField = 0x24, MediumMayHaveChanged = 0x28,
        SavingNotSupported = 0x39, MediumNotPresent = 0x3A, RemovalFailed = 0x53;

    const byte NewMedia = 2, MediaRemoval = 3, EjectRequest = 1;   // media events
    const int MaxReply = 512;
    const ushort ProfileCdRom = 0x08, ProfileDvdRom = 0x10;
    // times on the disc begin two seconds before sector 0
    const int LeadInFrames = 150;
    const long CdRomSectors = 360_000;                             // 80 minutes: above is a DVD

    const byte TestUnitReady = 0x00, RequestSense = 0x03, Inquiry = 0x12, ModeSense6 = 0x1A, StartStopUnit = 0x1B,
        PreventAllow = 0x1E, ReadCapacity = 0x25, Read10 = 0x28, Seek10 = 0x2B, ReadToc = 0x43, GetConfiguration = 0x46,
        GetEventStatus = 0x4A, ReadDiscInformation = 0x51, ModeSense10 = 0x5A, Read12 = 0xA8, ReadDvdStructure = 0xAD,
        ReadCdMsf = 0xB9,
        SetCdSpeed = 0xBB, MechanismStatus = 0xBD, ReadCd = 0xBE;

    void ExecutePacket(ReadOnlySpan<byte> packet)
    {
        byte operation = packet[0];
        // These report a changed medium, or nothing: they work whatever happened to the medium.
        bool works = operation is Inquiry or RequestSense or GetConfiguration or GetEventStatus;
        if (_attention && !works)
        {
            _attention = false;
            Check(UnitAttention, MediumMayHaveChanged);
            return;
        }
        Buffer.AsSpan(0, MaxReply).Clear();
        switch (operation)
        {
            case TestUnitReady: IfReady(Succeed); break;
            case RequestSense: SendSense(packet[4]); break;
            case Inquiry: SendInquiry(packet); break;
            case StartStopUnit: StartStop(packet[4]); break;
            case PreventAllow: _locked = (packet[4] & 1) != 0; Succeed(); break;
            case ReadCapacity: IfReady(SendCapacity); break;
            case Read10: Read(Word32(packet, 2), Word16(packet, 7)); break;
            case Read12: Read(Word32(packet, 2), Word32(packet, 6)); break;
            case ReadCd: ReadRaw(packet); break;
            case ReadCdMsf: ReadRawByTime(packet); break;
            case Seek10:
                if (!HasDisc) Check(NotReady, MediumNotPresent);
                else if (Word32(packet, 2) >= (ulong)TotalSectors) Check(IllegalRequest, LbaOutOfRange);
                else Succeed();
                break;
            case ReadToc: SendToc(packet); break;
            case ModeSense6: SendModePage(packet[2], packet[4], isLong: false); break;
            case ModeSense10: SendModePage(packet[2], Word16(packet, 7), isLong: true); break;
            case GetConfiguration: SendConfiguration(packet); break;
            case GetEventStatus: SendEvent(packet); break;
            case ReadDiscInformation: SendDiscInformation(packet); break;
            case MechanismStatus:
                Buffer[1] = _trayOpen ? (byte)0x10 : (byte)0;      // door open
                Buffer[5] = 1;                                     // slots
                Reply(8, Word16(packet, 8));
                break;
            case ReadDvdStructure: SendDvdStructure(packet); break;
            case SetCdSpeed: Succeed(); break;
            default: TellUnimplemented(packet[0]); Check(IllegalRequest, InvalidOpcode); break;
        }
    }

    void IfReady(Action then)
    {
        if (HasDisc) then();
        else Check(NotReady, MediumNotPresent);
    }

    void SendSense(byte allocated)
    {
        Buffer[0] = 0xF0;                                          // current error, fixed format, valid
        Buffer[2] = _senseKey;
        Buffer[7] = 10;
        Buffer[12] = _senseCode;
        Buffer[13] = _senseQualifier;
        if (_senseKey == NoSense && _attention)
        {
            (Buffer[2], Buffer[12]) = (UnitAttention, MediumMayHaveChanged);
            _attention = false;
        }
        Reply(18, allocated);
    }

    void SendInquiry(ReadOnlySpan<byte> packet)
    {
        // no vital product data
        if ((packet[1] & 1) != 0 || packet[2] != 0) { Check(IllegalRequest, InvalidField); return; }
        Buffer[0] = 0x05;                                          // CD/DVD
        Buffer[1] = 0x80;                                          // removable
        Buffer[3] = 0x21;                                          // ATAPI 2, response format 1
        Buffer[4] = 31;
        SetText(8, 8, "QEMU");
        SetText(16, 16, _model);
        SetText(32, 4, _version);
        Reply(36, Word16(packet, 3));
    }

    /// <summary>LoEj and Start: 2 opens the tray, 3 closes it.</summary>
    void StartStop(byte action)
    {
        if ((action & 0xF0) != 0) { Succeed(); return; }           // power conditions
        switch (action & 3)
        {
            case 2 when _locked:
                Check(HasDisc ? IllegalRequest : NotReady, RemovalFailed, 2);   // medium removal prevented
                return;
            case 2: MoveTray(open: true); break;
            case 3: MoveTray(open: false); break;
        }
        Succeed();
    }

    void SendCapacity()
    {
        BinaryPrimitives.WriteUInt32BigEndian(Buffer, (uint)Math.Clamp(TotalSectors - 1, 0, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(Buffer.AsSpan(4), DiscSector);
        Reply(8, 8);
    }

    /// <summary>One data track, then the lead-out.</summary>
    void SendToc(ReadOnlySpan<byte> packet)
    {
        if (!HasDisc) { Check(NotReady, MediumNotPresent); return; }
        bool asTime = (packet[1] & 2) != 0;
        int format = (packet[2] & 15) != 0 ? packet[2] & 15 : packet[9] >> 6, start = packet[6];
        Span<byte> reply = Buffer;
        int length = 4;
        reply[2] = reply[3] = 1;                                   // first and last track, or session
        switch (format)
        {
            case 0:
                if (start > 1 && start != 0xAA) { Check(IllegalRequest, InvalidField); return; }
                if (start <= 1) AddTrack(1, 0);
                AddTrack(0xAA, TotalSectors);
                break;
            case 1:
                AddTrack(1, 0);
                break;
            case 2:                                                // raw: points A0, A1, A2 and the track
                AddPoint(0xA0, 1, 0, 0);
                AddPoint(0xA1, 1, 0, 0);
                (byte minutes, byte seconds, byte frames) = Time(TotalSectors);
                AddPoint(0xA2, minutes, seconds, frames);
                AddPoint(1, 0, 2, 0);
                break;
            default:
                Check(IllegalRequest, InvalidField);
                return;
        }
        BinaryPrimitives.WriteUInt16BigEndian(Buffer, (ushort)(length - 2));
        Reply(length, Word16(packet, 7));

        void AddTrack(byte number, long sector)
        {
            Span<byte> track = Buffer.AsSpan(length, 8);
            track[1] = 0x14;                                       // ADR 1, data track
            track[2] = number;
            if (asTime) (track[5], track[6], track[7]) = Time(sector);
            else BinaryPrimitives.WriteUInt32BigEndian(track[4..], (uint)sector);
            length += 8;
        }

        void AddPoint(byte point, byte m, byte s, byte f)
        {
            Span<byte> entry = Buffer.AsSpan(length, 11);
            (entry[0], entry[1], entry[3], entry[8], entry[9], entry[10]) = (1, 0x14, point, m, s, f);
            length += 11;
        }
    }

    /// <summary>Minutes, seconds and frames, two seconds after the start of the disc.</summary>
    static (byte Minutes, byte Seconds, byte Frames) Time(long sector)
    {
        sector += LeadInFrames;
        return ((byte)Math.Min(sector / (75 * 60), 255), (byte)(sector / 75 % 60), (byte)(sector % 75));
    }

    /// <summary>Current and default values alike; nothing can be changed, so that all masks of changeable bits are
    /// 0.</summary>
    void SendModePage(byte control, int allocated, bool isLong)
    {
        const byte ErrorRecovery = 0x01, AudioControl = 0x0E, Capabilities = 0x2A, AllPages = 0x3F;
        const int Changeable = 1, Saved = 3;
        int page = control & 0x3F, header = isLong ? 8 : 4, at = header;
        if (control >> 6 == Saved) { Check(IllegalRequest, SavingNotSupported); return; }
        if (page is not (ErrorRecovery or AudioControl or Capabilities or AllPages))
            { Check(IllegalRequest, InvalidField); return; }
        Span<byte> data = Begin(ErrorRecovery, 6);
        if (!data.IsEmpty) data[3] = 5;                            // retries
        data = Begin(AudioControl, 14);                            // MMC-3, "CD audio control mode page"
        if (!data.IsEmpty)
        {
            data[2] = 0x04;                                        // IMMED: reports at once
            (data[8], data[9], data[10], data[11]) = (1, 0xFF, 2, 0xFF);   // left and right channel, loudest
        }
        data = Begin(Capabilities, 18);
        if (!data.IsEmpty)
        {
            data[2] = 0x3B;                                        // reads CD-R, CD-RW, DVD-ROM, DVD-R
            data[4] = 0x70;                                        // mode 2 forms, multisession
            data[6] = (byte)(0x29 | (_locked ? 2 : 0));            // tray, eject, lock
            BinaryPrimitives.WriteUInt16BigEndian(data[8..], 706); // kB/s: 4x
            BinaryPrimitives.WriteUInt16BigEndian(data[10..], 2);
            BinaryPrimitives.WriteUInt16BigEndian(data[12..], 512);
            BinaryPrimitives.WriteUInt16BigEndian(data[14..], 706);
        }
        byte medium = _trayOpen ? (byte)0x71 : HasDisc ? (byte)0x01 : (byte)0x70;
        if (isLong)
        {
            BinaryPrimitives.WriteUInt16BigEndian(Buffer, (ushort)(at - 2));
            Buffer[2] = medium;
        }
        else (Buffer[0], Buffer[1]) = ((byte)(at - 1), medium);
        Reply(at, allocated);

        // The page's place where it is wanted and has values to tell, behind its code and length.
        Span<byte> Begin(byte code, byte length)
        {
            if (page != code && page != AllPages) return default;
            (Buffer[at], Buffer[at + 1]) = (code, length);
            Span<byte> whole = Buffer.AsSpan(at, length + 2);
            at += length + 2;
            return control >> 6 == Changeable ? default : whole;
        }
    }

    void SendConfiguration(ReadOnlySpan<byte> packet)
    {
        int requestType = packet[1] & 3, first = Word16(packet, 2), at = 8;
        if (requestType == 3) { Check(IllegalRequest, InvalidField); return; }
        bool isDvd = TotalSectors > CdRomSectors;
        if (HasDisc) BinaryPrimitives.WriteUInt16BigEndian(Buffer.AsSpan(6), isDvd ? ProfileDvdRom : ProfileCdRom);
        // Profile list, core, removable medium: MMC-4, section 5.3
        AddFeature(0, 0x03,
            [0x00, 0x10, (byte)(HasDisc && isDvd ? 1 : 0), 0, 0x00, 0x08, (byte)(HasDisc && !isDvd ? 1 : 0), 0]);
        AddFeature(1, 0x0B, [0, 0, 0, 2, 1, 0, 0, 0]);             // ATAPI
        AddFeature(3, 0x03, [0x29, 0, 0, 0]);                      // tray, eject, lock
        BinaryPrimitives.WriteUInt32BigEndian(Buffer, (uint)(at - 4));
        Reply(at, Word16(packet, 7));

        void AddFeature(int code, byte flags, ReadOnlySpan<byte> data)
        {
            if (requestType == 2 ? code != first : code < first) return;
            BinaryPrimitives.WriteUInt16BigEndian(Buffer.AsSpan(at), (ushort)code);
            (Buffer[at + 2], Buffer[at + 3]) = (flags, (byte)data.Length);
            data.CopyTo(Buffer.AsSpan(at + 4));
            at += 4 + data.Length;
        }
    }

    void SendEvent(ReadOnlySpan<byte> packet)
    {
        const byte Polled = 1, MediaClass = 4, MediaClassMask = 1 << MediaClass, NoEventAvailable = 0x80;
        if ((packet[1] & Polled) == 0) { Check(IllegalRequest, InvalidField); return; }
        Buffer[3] = MediaClassMask;                                // classes we know
        if ((packet[4] & MediaClassMask) == 0)
        {
            (Buffer[1], Buffer[2]) = (2, NoEventAvailable);
            Reply(4, Word16(packet, 7));
            return;
        }
        (Buffer[1], Buffer[2]) = (6, MediaClass);
        Buffer[4] = _mediaEvent;
        Buffer[5] = (byte)((_trayOpen ? 1 : 0) | (HasDisc ? 2 : 0));
        if (Word16(packet, 7) > 4) _mediaEvent = 0;
        Reply(8, Word16(packet, 7));
    }

    void SendDiscInformation(ReadOnlySpan<byte> packet)
    {
        if (!HasDisc) { Check(NotReady, MediumNotPresent); return; }
        if ((packet[1] & 7) != 0) { Check(IllegalRequest, InvalidField); return; }
        (Buffer[1], Buffer[2]) = (32, 0x0E);                       // complete disc, last session complete
        (Buffer[3], Buffer[4], Buffer[5], Buffer[6]) = (1, 1, 1, 1);
        Buffer[7] = 0x20;                                          // unrestricted use
        Reply(34, Word16(packet, 7));
    }

    /// <summary>Physical format and copyright of a single-layer DVD-ROM.</summary>
    void SendDvdStructure(ReadOnlySpan<byte> packet)
    {
        int format = packet[7], allocated = Word16(packet, 8);
        if (!HasDisc) { Check(NotReady, MediumNotPresent); return; }
        // incompatible medium
        if (TotalSectors <= CdRomSectors || packet[6] != 0) { Check(IllegalRequest, 0x30, 2); return; }
        switch (format)
        {
            case 0:
                BinaryPrimitives.WriteUInt16BigEndian(Buffer, 2048 + 2);
                (Buffer[4], Buffer[5], Buffer[6]) = (1, 0x0F, 1);
                BinaryPrimitives.WriteUInt32BigEndian(Buffer.AsSpan(8), 0x30000);
                BinaryPrimitives.WriteUInt32BigEndian(Buffer.AsSpan(12),
                    (uint)Math.Min(0x30000 + TotalSectors - 1, 0xFFFFFF));
                Buffer.AsSpan(MaxReply, 2048 + 4 - MaxReply).Clear();
                Reply(2048 + 4, allocated);
                break;
            case 1:
                Buffer[1] = 6;
                Reply(8, allocated);
                break;
            default: Check(IllegalRequest, InvalidField); break;
        }
    }

    void SetText(int at, int length, string text)
    {
        Span<byte> field = Buffer.AsSpan(at, length);
        field.Fill((byte)' ');
        Encoding.ASCII.GetBytes(text.AsSpan(0, Math.Min(text.Length, length)), field);
    }

    static ushort Word16(ReadOnlySpan<byte> packet, int at) => BinaryPrimitives.ReadUInt16BigEndian(packet[at..]);
    static uint Word32(ReadOnlySpan<byte> packet, int at) => BinaryPrimitives.ReadUInt32BigEndian(packet[at..]);
}
