using Qkvm.Core.Devices;

namespace Qkvm.Hw.Audio;

/// <summary>The link between an HDA controller and its codecs.</summary>
sealed class HdaBus : IBusWires
{
    /// <summary>Codec addresses. HDA 1.0a, section 3.3.9: 15 of them can be told of.</summary>
    public const int Places = 15;

    public static readonly BusKind Kind = new("HDA", new Property("bus", PropertyKind.Bus, null, "the bus to sit on"),
        Property.Automatic("cad", max: Places - 1, help: "the codec's address"));

    readonly HdaCodec?[] _codecs = new HdaCodec?[Places];

    /// <summary>Where guest memory is moved, once there is a controller.</summary>
    public HdaController Controller { get; set; } = null!;

    public bool IsFull => Array.TrueForAll(_codecs, codec => codec != null);

    /// <summary>A bit for each codec that is there.</summary>
    public uint Present
    {
        get
        {
            uint present = 0;
            for (int i = 0; i < Places; i++)
                if (_codecs[i] != null) present |= 1u << i;
            return present;
        }
    }

    /// <summary>Null: nobody answers there.</summary>
    public HdaCodec? this[uint address] => address < Places ? _codecs[address] : null;

    public void Reset()
    {
        foreach (HdaCodec? codec in _codecs) codec?.Reset();
    }

    /// <summary>A stream of the controller has begun, ended or changed its number.</summary>
    public void StreamsChanged()
    {
        foreach (HdaCodec? codec in _codecs) codec?.Follow();
    }

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site)
    {
        int address = (int?)properties.NumberOrAuto("cad") ?? Array.IndexOf(_codecs, null);
        if (address < 0) throw properties.Error($"its bus has {Places} codecs already");
        if (_codecs[address] != null) throw properties.Error($"cad={address}: another codec has this address");
        _codecs[address] = (HdaCodec)device;
        _codecs[address]!.Bus = this;
        site.OnLeave(() => _codecs[address] = null);
    }

    string IBusWires.PathOf(IDevice device) => $"codec@{Array.IndexOf(_codecs, device):x}";
}
