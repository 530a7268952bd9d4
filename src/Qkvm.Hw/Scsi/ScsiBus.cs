using Qkvm.Core.Devices;

namespace Qkvm.Hw.Scsi;

/// <summary>The logical units behind one host bus adapter, by target and number. The bus "scsi.0" of users.</summary>
public sealed class ScsiBus(int mostTarget, int mostLun) : IBusWires
{
    volatile ScsiDevice[] _devices = [];                           // replaced as a whole: any thread may look

    /// <summary>What the adapter keeps for a device, made before anybody can find that.</summary>
    public Func<ScsiDevice, object>? Attach { get; init; }

    /// <summary>Under the machine lock, after a device has come, and after it has gone.</summary>
    public Action<ScsiDevice>? Plugged { get; init; }
    public Action<ScsiDevice>? Unplugged { get; init; }

    public IReadOnlyList<ScsiDevice> Devices => _devices;

    public bool IsFull => false;

    /// <summary>The unit or, where the target has no such one, another of it, which says so; null: there is no such
    /// target. From any thread.</summary>
    public ScsiDevice? Find(int target, int lun)
    {
        ScsiDevice? other = null;
        foreach (ScsiDevice device in _devices)
            if (device.Target == target)
            {
                if (device.Unit.Lun == lun) return device;
                other ??= device;
            }
        return other;
    }

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site)
    {
        var plugged = (ScsiDevice)device;
        ulong channel = properties.Number("channel");
        ulong? target = properties.NumberOrAuto("scsi-id"), lun = properties.NumberOrAuto("lun");
        if (channel > 0) throw properties.Error($"bad scsi channel id: {channel}");
        if (target > (ulong)mostTarget) throw properties.Error($"bad scsi device id: {target}");
        if (lun > (ulong)mostLun) throw properties.Error($"bad scsi device lun: {lun}");
        if (target is { } taken && lun is { } number && At((int)taken, (int)number) is { } other)
            throw properties.Error($"lun already used by '{other.Id ?? "(null)"}'");
        plugged.Target = (int?)target ?? Free(mostTarget, id => At(id, (int?)lun ?? 0) == null)
            ?? throw properties.Error("no free target");
        plugged.Unit.Lun = (int?)lun ?? (target == null ? 0 : Free(mostLun, id => At((int)target, id) == null))
            ?? throw properties.Error("no free lun");
        plugged.Id = site.Id;
        plugged.Unit.Units = () => [.. _devices.Where(d => d.Target == plugged.Target).Select(d => d.Unit.Lun).Order()];
        plugged.AtHost = Attach?.Invoke(plugged);
        _devices = [.. _devices, plugged];
        Plugged?.Invoke(plugged);
        site.OnLeave(() =>
        {
            _devices = [.. _devices.Where(d => d != plugged)];
            Unplugged?.Invoke(plugged);
        });
    }

    string IBusWires.PathOf(IDevice device)
    {
        var unit = (ScsiDevice)device;
        return $"channel@0/disk@{unit.Target:x},{unit.Unit.Lun:x}";
    }

    ScsiDevice? At(int target, int lun) => Array.Find(_devices, d => d.Target == target && d.Unit.Lun == lun);

    static int? Free(int most, Func<int, bool> isFree)
    {
        for (int i = 0; i <= most; i++)
            if (isFree(i)) return i;
        return null;
    }
}
