using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Scsi;

/// <summary>A CD/DVD-ROM drive. Spec: MMC-6; names are its. The bus is the transport's: SCSI, or ATA packets.</summary>
/// <remarks>Deviations: data discs of one track in mode 1 alone; no audio, no subchannels, no writing.</remarks>
/// <param name="isAtapi">On an ATA bus: older answers to INQUIRY, and the interface that GET CONFIGURATION
/// tells.</param>
public sealed partial class ScsiCd(BlockBackend backend, ScsiOptions options, bool isAtapi = false)
    : ScsiUnit(backend, options)
{
    public const int DiscSector = 2048;

    const byte NewMedia = 2, MediaRemoval = 3, EjectRequest = 1;   // media events
    const ushort ProfileCdRom = 0x08, ProfileDvdRom = 0x10;
    const long CdRomSectors = 360_000;                             // 80 minutes: above is a DVD

    byte _mediaEvent;                                              // for GET EVENT STATUS NOTIFICATION

    protected override byte DeviceType => 5;

    /// <summary>There is a disc in a closed tray.</summary>
    public bool HasDisc => HasMedium;
    public long TotalSectors => HasMedium ? Backend.Length / DiscSector : 0;

    protected override bool WorksAlways(byte opcode) =>
        opcode is ScsiOpcode.GetConfiguration or ScsiOpcode.GetEventStatus;

    protected override ScsiAction MovedBy(byte opcode) =>
        opcode is ScsiOpcode.Read10 or ScsiOpcode.Read12 || !isAtapi && opcode is ScsiOpcode.Read6 or ScsiOpcode.Read16
            ? ScsiAction.Read : ScsiAction.None;

    protected override ScsiCommand BeginOwn(byte opcode)
    {
        switch (opcode)
        {
            case ScsiOpcode.ReadCapacity10:
                return HasMedium ? Answers() with { Length = 8 } : Fail(ScsiSense.NoMedium);
            case ScsiOpcode.ReadToc or ScsiOpcode.ReadDiscInformation or ScsiOpcode.ReadDvdStructure:
                return AnswersWithMedium();
            case ScsiOpcode.GetConfiguration or ScsiOpcode.GetEventStatus or ScsiOpcode.MechanismStatus:
                return Answers();
            case ScsiOpcode.ServiceActionIn16 when !isAtapi: return AnswersWithMedium();
            case ScsiOpcode.Seek10:
                if (!HasMedium) return Fail(ScsiSense.NoMedium);
                return ScsiCdb.Range(Cdb).Block < (ulong)TotalSectors ? Good : Fail(ScsiSense.OutOfRange);
            case ScsiOpcode.SetCdSpeed or ScsiOpcode.SynchronizeCache10: return Good;
            default:
                ScsiAction action = MovedBy(opcode);
                return action == ScsiAction.None ? Fail(ScsiSense.InvalidOpcode) : Move(action);
        }
    }

    /// <summary>For transports that have commands of their own.</summary>
    public ScsiCommand Refused(ScsiSense sense) => Fail(sense);

    public override ScsiStatus Obey(ReadOnlySpan<byte> parameters, MediumWork work) =>
        Fail(ScsiSense.InvalidOpcode).Status;                      // no command brings any

    public override void RequestEject() => _mediaEvent = EjectRequest;

    protected override void OnTrayMoved(bool open) => _mediaEvent = open ? MediaRemoval : NewMedia;

    protected override void OnMediumChanged()
    {
        base.OnMediumChanged();
        if (!IsTrayOpen) _mediaEvent = Backend.HasMedium ? NewMedia : MediaRemoval;
    }

    protected override void ResetUnit() => _mediaEvent = 0;

    protected override void ExchangeUnit(StateStream state) => state.Field("media-event", ref _mediaEvent);
}
