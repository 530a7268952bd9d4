using System.Numerics;

namespace Qkvm.Hw.Storage;

/// <summary>Commands and their results: sections 5 and 6 of the data sheet.</summary>
public sealed partial class I82078
{
    const int LongestCommand = 9, LongestResult = 10, DataResult = 7, PolledDrives = 4;
    const byte OpcodeMask = 0x1F, MultiTrack = 0x80, NonDma = 1, Locks = 0x80;
    const byte VersionNumber = 0x90, PartNumber = 0x41, PerpendicularKept = 0x3C;

    // Status registers, section 5.1
    const byte Abnormal = 0x40, Invalid = 0x80, Polled = 0xC0, SeekEnd = 0x20, EquipmentCheck = 0x10;
    const byte EndOfCylinder = 0x80, Overrun = 0x10, NoData = 0x04, NotWritable = 0x02, MissingAddressMark = 0x01,
        DataError = 0x20;
    const byte WriteProtected = 0x40, Ready = 0x28, Track0 = 0x10, Head1 = 4;

    byte _specify, _headLoad, _configuration, _precompensation, _perpendicular;
    bool _isLocked;
    byte _senses;                                                  // drives whose seek is not told yet, a bit each
    readonly byte[] _senseStatus = new byte[PolledDrives];

    bool IsNonDma => (_headLoad & NonDma) != 0;

    /// <summary>Bytes of a command, by its first; 1 of one that there is not.</summary>
    static int LengthOf(byte first) => first switch
    {
        0x8F or 0xCF => 3,                                         // RELATIVE SEEK
        0x33 => 2,                                                 // OPTION
        _ => (first & OpcodeMask) switch
        {
            ReadTrack or WriteData or ReadData or WriteDeleted or ReadDeleted or Verify => 9,
            FormatTrack => 6,
            0x13 => 4,
            0x03 or 0x0F => 3,
            0x04 or 0x07 or 0x0A or 0x12 or 0x17 => 2,
            _ => 1,
        },
    };

    void WriteFifo(byte value)
    {
        if (IsReset) return;
        if (_phase == Phase.Execution)
        {
            if (IsNonDma && IsWrite && _at < _end) PassByte(value);
            return;
        }
        if (_phase == Phase.Result) return;
        _command[_commandLength++] = value;
        if (_commandLength < LengthOf(_command[0])) return;
        _commandLength = 0;
        Execute();
    }

    byte ReadFifo()
    {
        if (_phase == Phase.Execution && IsNonDma && !IsWrite && _at < _end) return TakeByte();
        if (_phase != Phase.Result) return 0;
        if (_resultAt == 0 && _resultLength == DataResult) Lower();
        byte value = _result[_resultAt++];
        if (_resultAt == _resultLength) (_phase, _resultAt) = (Phase.Command, 0);
        return value;
    }

    void Execute()
    {
        byte first = _command[0];
        switch (first)
        {
            case 0x8F or 0xCF:
                if (Selected is { } moved) moved.Seek(moved.Track + (first == 0xCF ? _command[2] : -_command[2]));
                EndSeek(SeekEnd);
                return;
            case 0x33: return;
        }
        switch (first & OpcodeMask)
        {
            case ReadTrack or WriteData or ReadData or WriteDeleted or ReadDeleted or Verify or FormatTrack:
                BeginTransfer((byte)(first & OpcodeMask));
                break;
            case 0x03: (_specify, _headLoad) = (_command[1], _command[2]); break;
            case 0x04: Answer(DriveStatus()); break;
            case 0x07:                                             // RECALIBRATE
                Selected?.Seek(0);
                EndSeek((byte)(Selected == null ? Abnormal | SeekEnd | EquipmentCheck : SeekEnd));
                break;
            case 0x08: SenseInterrupt(); break;
            case 0x0A: ReadId(); break;
            case 0x0E: DumpRegisters(); break;
            case 0x0F:                                             // SEEK
                Selected?.Seek(_command[2]);
                EndSeek(SeekEnd);
                break;
            case 0x10: Answer(VersionNumber); break;
            case 0x12:                                             // PERPENDICULAR MODE; OW lets drives be chosen
                _perpendicular = (byte)((_command[1] & 0x80) != 0 ? _command[1] & 0x7F
                    : _perpendicular & PerpendicularKept | _command[1] & 3);
                break;
            case 0x13: (_configuration, _precompensation) = ((byte)(_command[2] & 0x7F), _command[3]); break;
            case 0x14:                                             // LOCK
                _isLocked = (first & Locks) != 0;
                Answer((byte)(_isLocked ? 0x10 : 0));
                break;
            case 0x17: Answer(_command[1]); break;                 // POWERDOWN MODE
            case 0x18: Answer(PartNumber); break;
            default: Answer(Invalid); break;
        }
    }

    /// <summary>The drive that a command's second byte names.</summary>
    FloppyDrive? Selected => (_command[1] & SelectMask) is < Drives and var unit ? _drives[unit] : null;

    byte SelectedBits => (byte)(_command[1] & (Head1 | SelectMask));

    void Answer(params ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_result);
        (_phase, _resultAt, _resultLength) = (Phase.Result, 0, bytes.Length);
    }

    void EndSeek(byte status)
    {
        int unit = _command[1] & SelectMask;
        _senses |= (byte)(1 << unit);
        _senseStatus[unit] = (byte)(status | SelectedBits);
        Raise();
    }

    void SenseInterrupt()
    {
        if (_resetsToSense > 0)
        {
            int polled = PolledDrives - _resetsToSense--;
            Lower();
            Answer((byte)(Polled | polled), TrackOf(polled));
            return;
        }
        if (_senses == 0) { Answer(Invalid); return; }
        int unit = BitOperations.TrailingZeroCount(_senses);
        _senses &= (byte)(_senses - 1);
        Lower();
        Answer(_senseStatus[unit], TrackOf(unit));
        if (_senses != 0) Raise();
    }

    byte TrackOf(int unit) => unit < Drives ? _drives[unit]?.Track ?? 0 : (byte)0;

    byte DriveStatus() => (byte)(Ready | SelectedBits
        | (Selected is not { } drive ? 0 : (drive.Track == 0 ? Track0 : 0)
            | (drive.Backend.IsReadOnly ? WriteProtected : 0)));

    void ReadId()
    {
        (_track, _head, _sector) = (Selected?.Track ?? 0, (byte)(_command[1] >> 2 & 1), 1);
        if (IsReadable(out byte status1)) End(0, 0, 0);
        else End(Abnormal, status1, 0);
    }

    void DumpRegisters() => Answer(TrackOf(0), TrackOf(1), 0, 0, _specify, _headLoad, (byte)_left,
        (byte)((_isLocked ? 0x80 : 0) | _perpendicular), _configuration, _precompensation);
}
