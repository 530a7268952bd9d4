using Qkvm.Core.Block;
using Qkvm.Core.State;

namespace Qkvm.Hw.Scsi;

/// <summary>What a disk is, beside its backend.</summary>
public sealed record ScsiDiskOptions
{
    public string Vendor { get; init; } = "QEMU";
    public string Product { get; init; } = "QEMU HARDDISK";
    public string Version { get; init; } = "2.5+";
    public string Serial { get; init; } = "";
    public bool IsRemovable { get; init; }
    public int BlockSize { get; init; } = 512;
    public int PhysicalBlockSize { get; init; } = 512;
}

/// <summary>A direct access block device as SCSI sees it: commands, sense and mode data. The transport moves the data
/// and has the medium do its work. Spec: SPC-4 and SBC-3; names are theirs.</summary>
/// <remarks>A transport calls <see cref="Begin"/>, does what that says, and ends with <see cref="Finish"/>; one command
/// at a time of each.</remarks>
public sealed partial class ScsiDisk
{
    // Operation codes, SPC-4 table 132 and SBC-3 table 12
    const byte TestUnitReady = 0x00, RequestSense = 0x03, Read6 = 0x08, Write6 = 0x0A, Inquiry = 0x12,
        ModeSelect6 = 0x15, ModeSense6 = 0x1A, StartStopUnit = 0x1B, PreventAllow = 0x1E, ReadCapacity10 = 0x25,
        Read10 = 0x28, Write10 = 0x2A, Verify10 = 0x2F, SynchronizeCache10 = 0x35, Unmap = 0x42, ModeSelect10 = 0x55,
        ModeSense10 = 0x5A, Read16 = 0x88, Write16 = 0x8A, Verify16 = 0x8F, SynchronizeCache16 = 0x91,
        ServiceActionIn16 = 0x9E, ReportLuns = 0xA0, Read12 = 0xA8, Write12 = 0xAA, Verify12 = 0xAF;

    /// <summary>Of answers and parameters.</summary>
    public const int MostData = 4096;

    readonly ScsiDiskOptions _options;
    ScsiSense _sense;
    bool _isPrevented, _mediumChanged;
    readonly byte[] _cdb = new byte[ScsiCdb.MaxLength];

    public ScsiDisk(BlockBackend backend, ScsiDiskOptions options)
    {
        (Backend, _options) = (backend, options);
        backend.MediumChanged += () => _mediumChanged = true;
    }

    public BlockBackend Backend { get; }

    ulong Blocks => (ulong)Backend.Length / (ulong)_options.BlockSize;

    public void Reset()
    {
        (_sense, _isPrevented, _mediumChanged) = (ScsiSense.None, false, false);
        Array.Clear(_cdb);
    }

    /// <summary>Looks at a command block of any length; nothing else happens yet.</summary>
    /// <param name="unit">Of logical unit 0; others are not there.</param>
    public ScsiCommand Begin(ReadOnlySpan<byte> cdb, int unit)
    {
        Array.Clear(_cdb);
        cdb[..Math.Min(cdb.Length, ScsiCdb.MaxLength)].CopyTo(_cdb);
        byte opcode = _cdb[0];
        int length = ScsiCdb.LengthOf(opcode);
        if (length == 0 || cdb.Length < length) return Fail(ScsiSense.InvalidOpcode);
        if (opcode is not (RequestSense or Inquiry or ReportLuns))
        {
            if (unit != 0) return Fail(ScsiSense.NoSuchUnit);
            if (_mediumChanged)
            {
                _mediumChanged = false;
                return Fail(ScsiSense.MediumChanged);              // SAM-5, section 5.14
            }
        }
        long room = Math.Min(ScsiCdb.AllocationLength(_cdb), MostData);
        switch (opcode)
        {
            case TestUnitReady: return Backend.HasMedium ? Good : Fail(ScsiSense.NoMedium);
            case RequestSense or Inquiry or ModeSense6 or ModeSense10 or ReportLuns:
                return new(ScsiAction.Answer, ScsiStatus.Good, room);
            case ReadCapacity10 or ServiceActionIn16:
                return !Backend.HasMedium ? Fail(ScsiSense.NoMedium)
                    : new(ScsiAction.Answer, ScsiStatus.Good, opcode == ReadCapacity10 ? 8 : room);
            case ModeSelect6 or ModeSelect10 or Unmap:
                uint parameters = ScsiCdb.AllocationLength(_cdb);
                if (parameters > MostData) return Fail(ScsiSense.ParameterLength);
                return parameters == 0 ? Good : new(ScsiAction.Parameters, ScsiStatus.Good, parameters);
            case StartStopUnit: return StartStop();
            case PreventAllow:
                _isPrevented = (_cdb[4] & 1) != 0;
                return Good;
            case SynchronizeCache10 or SynchronizeCache16:
                return new(Backend.HasMedium ? ScsiAction.Flush : ScsiAction.None, ScsiStatus.Good);
            case Read6 or Read10 or Read12 or Read16: return Move(ScsiAction.Read);
            case Write6 or Write10 or Write12 or Write16: return Move(ScsiAction.Write);
            case Verify10 or Verify12 or Verify16:
                // BYTCHK: comparing data is another thing
                return (_cdb[1] & 6) != 0 ? Fail(ScsiSense.InvalidField) : Move(ScsiAction.Verify) with { Length = 0 };
            default: return Fail(ScsiSense.InvalidOpcode);
        }
    }

    /// <summary>The end of what the medium did.</summary>
    /// <param name="errno">0: it did it.</param>
    public ScsiStatus Finish(in ScsiCommand command, int errno)
    {
        const int noSpace = 28, noMedium = 123;
        if (errno == 0) return ScsiStatus.Good;
        return Fail(errno switch
        {
            noSpace => ScsiSense.SpaceFailed,
            noMedium => ScsiSense.NoMedium,
            _ => command.Action == ScsiAction.Read ? ScsiSense.ReadError : ScsiSense.WriteError,
        }).Status;
    }

    public void Exchange(StateStream state)
    {
        (byte key, ushort code) = (_sense.Key, _sense.Code);
        state.Field("sense-key", ref key);
        state.Field("sense-code", ref code);
        state.Field("prevented", ref _isPrevented);
        state.Field("medium-changed", ref _mediumChanged);
        state.Block("cdb", _cdb);
        _sense = new ScsiSense((byte)(key & 0xF), code);
    }

    static ScsiCommand Good => new(ScsiAction.None, ScsiStatus.Good);

    ScsiCommand Fail(ScsiSense sense)
    {
        _sense = sense;
        return new(ScsiAction.None, ScsiStatus.CheckCondition);
    }

    ScsiCommand Move(ScsiAction action)
    {
        const byte forceUnitAccess = 0x08;
        if (!Backend.HasMedium) return Fail(ScsiSense.NoMedium);
        if (action == ScsiAction.Write && Backend.IsReadOnly) return Fail(ScsiSense.WriteProtected);
        (ulong block, ulong count) = ScsiCdb.Range(_cdb);
        if (block > Blocks || count > Blocks - block) return Fail(ScsiSense.OutOfRange);
        if (count == 0) return Good;
        bool isFua = ScsiCdb.LengthOf(_cdb[0]) > 6 && (_cdb[1] & forceUnitAccess) != 0;
        return new(action, ScsiStatus.Good, (long)count * _options.BlockSize, (long)block * _options.BlockSize, isFua);
    }

    /// <summary>SBC-3, section 5.25: of a removable medium LOEJ takes it out.</summary>
    ScsiCommand StartStop()
    {
        const byte loadEject = 2, start = 1, powerConditions = 0xF0;
        if ((_cdb[4] & powerConditions) != 0) return Good;
        bool ejects = (_cdb[4] & (loadEject | start)) == loadEject && _options.IsRemovable;
        return ejects && _isPrevented ? Fail(ScsiSense.RemovalPrevented) : Good;
    }
}
