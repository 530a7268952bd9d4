using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Scsi;

/// <summary>What a logical unit is, beside its backend.</summary>
public sealed record ScsiOptions
{
    public string Vendor { get; init; } = "QEMU";
    public string Product { get; init; } = "QEMU HARDDISK";
    public string Version { get; init; } = "2.5+";
    public string Serial { get; init; } = "";

    /// <summary>What it is identified by; empty: by the serial number, or the backend's name.</summary>
    public string DeviceId { get; init; } = "";

    /// <summary>NAA identifiers of unit and port; 0: none.</summary>
    public ulong Wwn { get; init; }
    public ulong PortWwn { get; init; }
    public ushort PortIndex { get; init; }

    public bool IsRemovable { get; init; }

    /// <summary>Reads and writes may ask to go past caches (DPO, FUA).</summary>
    public bool HasDpoFua { get; init; }

    /// <summary>It takes many commands at once; the first after a reset hears of that, as SAM-5 has it. Bulk-only
    /// transports do without.</summary>
    public bool IsQueued { get; init; }

    /// <summary>INQUIRY's version field: 5 for SPC-3.</summary>
    public byte ScsiVersion { get; init; } = 5;
    public int BlockSize { get; init; } = 512;
    public int PhysicalBlockSize { get; init; } = 512;
    public uint MinIo { get; init; }
    public uint OptimalIo { get; init; }
    public uint DiscardGranularity { get; init; }
    public ulong MaxUnmap { get; init; }
    public ulong MaxIo { get; init; }

    /// <summary>1: it does not rotate; 0: it does not tell.</summary>
    public ushort RotationRate { get; init; }
}

/// <summary>A logical unit: commands, sense and what they answer. The transport moves the data and has the medium do
/// its work. Spec: SPC-4; names are its.</summary>
/// <remarks>A transport calls <see cref="Begin"/>, does what that says, and ends with <see cref="Finish"/>; one command
/// at a time of each, under the machine lock. A transport that has many commands of one unit in flight begins those
/// that move data by <see cref="TryMove"/>, from any thread.</remarks>
public abstract partial class ScsiUnit : ITray
{
    /// <summary>Of answers and parameters.</summary>
    public const int MostData = 4096;

    readonly byte[] _cdb = new byte[ScsiCdb.MaxLength];
    ScsiSense _sense;
    volatile bool _isSpecial;                                      // not migrated: what TryMove leaves to Begin
    ScsiSense _attention;                                          // what the next command hears
    bool _isAbsent;                                                // the command is for a unit that is not there
    bool _trayOpen, _locked;

    protected ScsiUnit(BlockBackend backend, ScsiOptions options)
    {
        (Backend, Options) = (backend, options);
        backend.MediumChanged += OnMediumChanged;
    }

    public BlockBackend Backend { get; }

    /// <summary>Its number in its target.</summary>
    public int Lun { get; internal set; }

    /// <summary>Numbers of all units of its target, for REPORT LUNS.</summary>
    public Func<IReadOnlyList<int>>? Units { get; set; }

    /// <summary>Why the last command failed.</summary>
    public ScsiSense Sense => _sense;

    public bool IsTrayOpen => _trayOpen;
    public bool IsLocked => _locked;
    public Action<bool>? TrayMoved { get; set; }

    /// <summary>The medium has another size, or is another one.</summary>
    public Action? Changed { get; set; }

    protected ScsiOptions Options { get; }

    /// <summary>The command that was begun last.</summary>
    protected ReadOnlySpan<byte> Cdb => _cdb;

    protected bool HasMedium => !_trayOpen && Backend.HasMedium;
    protected ulong Blocks => HasMedium ? (ulong)Backend.Length / (ulong)Options.BlockSize : 0;

    protected static ScsiCommand Good => new(ScsiAction.None, ScsiStatus.Good);

    /// <summary>Looks at a command that this kind of unit has beside what all have.</summary>
    protected abstract ScsiCommand BeginOwn(byte opcode);

    /// <summary>These work whatever happened to the medium, and leave the news of it to others.</summary>
    protected virtual bool WorksAlways(byte opcode) => false;

    protected virtual void ResetUnit() { }
    protected abstract void ExchangeUnit(StateStream state);

    public void Reset()
    {
        (_sense, _trayOpen, _locked, _isAbsent) = (ScsiSense.None, false, false, false);
        Attend(Options.IsQueued ? ScsiSense.PowerOn : ScsiSense.None);
        Array.Clear(_cdb);
        ResetUnit();
    }

    /// <summary>The next command hears of this; None: of nothing.</summary>
    public void Attend(ScsiSense news)
    {
        _attention = news;
        _isSpecial = !news.IsNone || _trayOpen;
    }

    /// <summary>Looks at a command block of any length; nothing else happens yet.</summary>
    /// <param name="unit">Of which logical unit; others than this one are not there.</param>
    public ScsiCommand Begin(ReadOnlySpan<byte> cdb, int unit)
    {
        Array.Clear(_cdb);
        cdb[..Math.Min(cdb.Length, ScsiCdb.MaxLength)].CopyTo(_cdb);
        byte opcode = _cdb[0];
        int length = ScsiCdb.LengthOf(opcode);
        _isAbsent = unit != Lun;
        if (opcode != ScsiOpcode.RequestSense) _sense = ScsiSense.None;
        if (length == 0 || cdb.Length < length) return Fail(ScsiSense.InvalidOpcode);
        if (opcode is not (ScsiOpcode.RequestSense or ScsiOpcode.Inquiry or ScsiOpcode.ReportLuns))
        {
            if (_isAbsent) return Fail(ScsiSense.NoSuchUnit);
            if (!_attention.IsNone && !WorksAlways(opcode))
            {
                ScsiSense news = _attention;                       // SAM-5, section 5.14
                Attend(ScsiSense.None);
                return Fail(news);
            }
        }
        switch (opcode)
        {
            case ScsiOpcode.TestUnitReady: return HasMedium ? Good : Fail(ScsiSense.NoMedium);
            case ScsiOpcode.RequestSense or ScsiOpcode.Inquiry or ScsiOpcode.ModeSense6 or ScsiOpcode.ModeSense10
                or ScsiOpcode.ReportLuns: return Answers();
            case ScsiOpcode.StartStopUnit: return StartStop();
            case ScsiOpcode.PreventAllow:
                _locked = (_cdb[4] & 1) != 0;
                return Good;
            default: return BeginOwn(opcode);
        }
    }

    /// <summary>A command that moves data, and can: as <see cref="Begin"/> from any thread. Of all others it says no
    /// more.</summary>
    public bool TryMove(ReadOnlySpan<byte> cdb, out ScsiCommand command)
    {
        command = default;
        if (_isSpecial || !Backend.HasMedium || ScsiCdb.LengthOf(cdb[0]) > cdb.Length) return false;
        ScsiAction action = MovedBy(cdb[0]);
        if (action == ScsiAction.None || action == ScsiAction.Write && Backend.IsReadOnly) return false;
        if (Protects(cdb)) return false;
        if (action == ScsiAction.Flush)
        {
            command = new(ScsiAction.Flush, ScsiStatus.Good);
            return true;
        }
        (ulong block, ulong count) = ScsiCdb.Range(cdb);
        ulong blocks = (ulong)Backend.Length / (ulong)Options.BlockSize;
        if (count == 0 || block > blocks || count > blocks - block) return false;
        command = Moving(action, cdb, block, count);
        return true;
    }

    /// <summary>Read, Write or Flush, for the operation codes that are nothing else.</summary>
    protected abstract ScsiAction MovedBy(byte opcode);

    /// <summary>Carries out the command that was begun last, with the parameters that came.</summary>
    /// <param name="work">Receives what the medium is to do; empty before.</param>
    public abstract ScsiStatus Obey(ReadOnlySpan<byte> parameters, MediumWork work);

    /// <summary>The end of what the medium did.</summary>
    /// <param name="errno">0: it did it.</param>
    public ScsiStatus Finish(in ScsiCommand command, int errno) => errno == 0 ? ScsiStatus.Good
        : Fail(ScsiSense.Of(errno, command.Action == ScsiAction.Read)).Status;

    /// <summary>For transports that bring it along with the status (SPC-4, autosense).</summary>
    public ScsiSense TakeSense()
    {
        ScsiSense sense = _sense;
        _sense = ScsiSense.None;
        return sense;
    }

    public void Exchange(StateStream state)
    {
        state.Block("cdb", _cdb);
        state.Field("absent", ref _isAbsent);
        state.Field("tray-open", ref _trayOpen);
        state.Field("locked", ref _locked);
        _sense = Exchange(state.Group("sense"), _sense);
        Attend(Exchange(state.Group("attention"), _attention));
        ExchangeUnit(state);
    }

    static ScsiSense Exchange(StateStream state, ScsiSense sense)
    {
        (byte key, ushort code) = (sense.Key, sense.Code);
        state.Field("key", ref key);
        state.Field("code", ref code);
        if (key > 0xF) throw state.Refuse("key", $"{key} is none");
        return new ScsiSense(key, code);
    }

    protected ScsiCommand Fail(ScsiSense sense)
    {
        _sense = sense;
        return new(ScsiAction.None, ScsiStatus.CheckCondition);
    }

    protected ScsiCommand Answers() =>
        new(ScsiAction.Answer, ScsiStatus.Good, ScsiCdb.AllocationLength(_cdb));

    protected ScsiCommand AnswersWithMedium() => HasMedium ? Answers() : Fail(ScsiSense.NoMedium);

    protected ScsiCommand Move(ScsiAction action)
    {
        if (!HasMedium) return Fail(ScsiSense.NoMedium);
        if (action == ScsiAction.Write && Backend.IsReadOnly) return Fail(ScsiSense.WriteProtected);
        if (action != ScsiAction.Verify && Protects(_cdb)) return Fail(ScsiSense.InvalidField);
        (ulong block, ulong count) = ScsiCdb.Range(_cdb);
        if (block > Blocks || count > Blocks - block) return Fail(ScsiSense.OutOfRange);
        return count == 0 ? Good : Moving(action, _cdb, block, count);
    }

    /// <summary>It asks for protection information, which is in the place of what was the unit's number up to
    /// SPC-2.</summary>
    bool Protects(ReadOnlySpan<byte> cdb)
    {
        const byte protect = 0xE0;
        return Options.ScsiVersion > 2 && (cdb[1] & protect) != 0;
    }

    ScsiCommand Moving(ScsiAction action, ReadOnlySpan<byte> cdb, ulong block, ulong count)
    {
        const byte forceUnitAccess = 0x08;
        bool isFua = ScsiCdb.LengthOf(cdb[0]) > 6 && (cdb[1] & forceUnitAccess) != 0;
        return new(action, ScsiStatus.Good, (long)count * Options.BlockSize, (long)block * Options.BlockSize, isFua);
    }

    // Medium and tray

    /// <summary>SBC-3, section 5.25: LOEJ moves the tray.</summary>
    ScsiCommand StartStop()
    {
        const byte loadEject = 2, start = 1, powerConditions = 0xF0;
        if ((_cdb[4] & powerConditions) != 0 || (_cdb[4] & loadEject) == 0 || !Options.IsRemovable) return Good;
        bool opens = (_cdb[4] & start) == 0;
        if (opens && !_trayOpen && _locked)
            return Fail(HasMedium ? ScsiSense.RemovalPrevented : ScsiSense.RemovalPreventedEmpty);
        MoveTray(opens);
        return Good;
    }

    public virtual void RequestEject() { }

    public void MoveTray(bool open)
    {
        if (_trayOpen == open) return;
        _trayOpen = open;
        Attend(open || !Backend.HasMedium ? ScsiSense.None : ScsiSense.MediumChanged);
        OnTrayMoved(open);
        TrayMoved?.Invoke(open);
    }

    protected virtual void OnTrayMoved(bool open) { }

    /// <summary>What happens in an open tray the guest sees when it closes.</summary>
    protected virtual void OnMediumChanged()
    {
        if (_trayOpen) return;
        bool isResized = !Options.IsRemovable;
        Attend(!Backend.HasMedium ? ScsiSense.None : isResized ? ScsiSense.CapacityChanged : ScsiSense.MediumChanged);
        Changed?.Invoke();
    }
}
