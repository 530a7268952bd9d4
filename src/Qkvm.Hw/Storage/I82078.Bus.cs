using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

public sealed partial class I82078
{
    /// <summary>What ACPI tells of the controller in its usual place.</summary>
    public static Aml[] Describe() => Aml.PlugAndPlay("PNP0700", null,
        AmlResource.Io((ushort)(DefaultBase + FirstPort), Fifo - FirstPort + 1),
        AmlResource.Io((ushort)(DefaultBase + DirCcr), 1), AmlResource.Irq(DefaultIrq), AmlResource.Dma(DefaultDma));

    public bool IsFull => Array.IndexOf(_drives, null) < 0;

    public void Plug(IDevice device, Properties properties, DeviceSite site)
    {
        int unit = (int?)properties.NumberOrAuto("unit") ?? Array.IndexOf(_drives, null);
        if (unit < 0 || unit >= Drives || _drives[unit] != null)
            throw properties.Error(unit < 0 ? "the controller has two drives already"
                : $"unit={unit} is taken; the other is {1 - unit}");
        var drive = (FloppyDrive)device;
        (_drives[unit], drive.Unit) = (drive, unit);
    }

    public string PathOf(IDevice device) => "";

    public void Exchange(StateStream state)
    {
        byte phase = (byte)_phase, kind = (byte)_kind;
        state.Field("dor", ref _dor);
        state.Field("tdr", ref _tdr);
        state.Field("rate", ref _rate);
        state.Field("phase", ref phase);
        state.Block("command", _command);
        state.Field("command-length", ref _commandLength, 0, LongestCommand - 1);
        state.Block("result", _result);
        state.Field("result-at", ref _resultAt, 0, LongestResult);
        state.Field("result-length", ref _resultLength, 0, LongestResult);
        state.Field("interrupt", ref _interrupt);
        state.Field("resets-to-sense", ref _resetsToSense);
        state.Field("senses", ref _senses);
        state.Block("sense-status", _senseStatus);
        state.Field("specify", ref _specify);
        state.Field("head-load", ref _headLoad);
        state.Field("configuration", ref _configuration);
        state.Field("precompensation", ref _precompensation);
        state.Field("perpendicular", ref _perpendicular);
        state.Field("locked", ref _isLocked);
        state.Field("transfer", ref kind);
        state.Field("track", ref _track);
        state.Field("head", ref _head);
        state.Field("sector", ref _sector);
        state.Field("chunk", ref _chunk, 0, MostSectors);
        state.Field("at", ref _at, 0, _buffer.Length);
        state.Field("end", ref _end, 0, _buffer.Length);
        state.Field("left", ref _left, 0, byte.MaxValue);
        state.Block("buffer", _buffer);
        (_phase, _kind) = ((Phase)phase, (Transfer)kind);
        if (_phase > Phase.Result || _kind > Transfer.Format || _resetsToSense > PolledDrives
            || _resultAt > _resultLength || _at > _end || _senses >= 1 << PolledDrives)
            throw state.Refuse("phase", "an impossible state of a command");
        if (state.IsLoading) _irq.Restore(_interrupt && (_dor & DmaGate) != 0);
    }
}
