using Qkvm.Core.Audio;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using static Qkvm.Hw.Audio.HdaVerbs;

namespace Qkvm.Hw.Audio;

/// <summary>A codec with one function group: a DAC to a line-out jack, and an ADC from a line-in jack or a microphone.
/// Spec: High Definition Audio 1.0a, section 7; identities are QEMU's.</summary>
/// <remarks>Deviations: no jack detection, no unsolicited responses; power states are kept and change
/// nothing.</remarks>
public sealed class HdaCodec : IDevice
{
    const uint Plain = 1, WithMixer = 2, OutputKind = 0x10, DuplexKind = 0x20, MicroKind = 0x30;

    public static readonly DeviceModel Duplex = Family("hda-duplex", "HDA Audio Codec, duplex (line-out, line-in)",
        DuplexKind);
    public static readonly DeviceModel Output = Family("hda-output", "HDA Audio Codec, output-only (line-out)",
        OutputKind);
    public static readonly DeviceModel Micro = Family("hda-micro", "HDA Audio Codec, duplex (speaker, microphone)",
        MicroKind);

    const uint Qemu = 0x1AF4_0000, Revision = 0x0010_0101;
    // configuration defaults, section 7.3.3.31
    const uint LineOutJack = 0x0101_4010, SpeakerInside = 0x9017_0110, LineInJack = 0x0181_3020,
        MicrophoneJack = 0x01A1_9020;

    readonly uint _kind;
    readonly bool _hasMixer;
    readonly HdaConverter _dac;
    readonly HdaConverter? _adc;
    readonly PlaybackStream _out;
    readonly RecordingStream? _in;
    readonly byte[] _pins = new byte[Nodes];                       // widget control, by node
    readonly byte[] _power = new byte[Nodes];

    static DeviceModel Family(string name, string description, uint kind) => new(name, HdaBus.Kind,
        [
            Property.Audiodev(), Property.Bool("mixer", true, "the converters have amplifiers"),
            Property.Missing("use-timer", "on"), Property.Missing("debug", "0"),
        ],
        (properties, site) => new HdaCodec(name, kind, properties.Bool("mixer"), properties.Text("audiodev"), site))
    { Category = DeviceCategory.Sound, Description = description };

    HdaCodec(string name, uint kind, bool hasMixer, string? audiodev, DeviceSite site)
    {
        (Name, _kind, _hasMixer) = (name, kind, hasMixer);
        _dac = new HdaConverter(this, isOutput: true);
        _out = site.Playback(audiodev, $"{name}.out", _dac);
        if (kind != OutputKind)
        {
            _adc = new HdaConverter(this, isOutput: false);
            _in = site.Recording(audiodev, $"{name}.in", _adc);
        }
        Reset();
    }

    public string Name { get; }
    internal HdaBus? Bus { get; set; }

    public void Reset()
    {
        _dac.Reset();
        _adc?.Reset();
        Array.Clear(_power);
        _pins[LineOut] = PinOutput;
        _pins[LineIn] = PinInput;
        Follow();
    }

    public void Exchange(StateStream state)
    {
        _dac.Exchange(state.Group("dac"));
        _adc?.Exchange(state.Group("adc"));
        state.Block("pins", _pins);
        state.Block("power", _power);
        if (state.IsLoading) FollowFormats();
        _out.Exchange(state.Group("out"));
        _in?.Exchange(state.Group("in"));
    }

    /// <summary>Executes a command: address, node, verb and payload. Section 7.3.</summary>
    /// <returns>The response; 0 for what nobody knows.</returns>
    internal uint Execute(uint command)
    {
        int node = (int)(command >> 20 & 0x7F);
        uint verb = command >> 8 & 0xFFF, payload = command & 0xFF, wide = command & 0xFFFF;
        if (node >= NodeCount) return 0;
        HdaConverter? converter = node == Dac ? _dac : node == Adc ? _adc : null;
        switch (verb >> 8)
        {
            case SetFormat: Change(converter, c => c.Format = (ushort)wide); return 0;
            case GetFormat: return converter?.Format ?? 0u;
            case SetAmplifier: Change(_hasMixer ? converter : null, c => c.SetAmplifier(wide)); return 0;
            case GetAmplifier: return _hasMixer ? converter?.Amplifier(wide) ?? 0 : 0;
        }
        switch (verb)
        {
            case GetParameter: return Parameter(node, payload);
            case GetConnections: return payload == 0 ? Source(node) : 0;
            case SetStream: Change(converter, c => c.Stream = (byte)payload); return 0;
            case GetStream: return converter?.Stream ?? 0u;
            case SetPin: _pins[node] = (byte)payload; return 0;
            case GetPin: return node is LineOut or LineIn ? _pins[node] : 0u;
            case SetPower: _power[node] = (byte)(payload & 0x0F); return 0;
            case GetPower: return (uint)(_power[node] | _power[node] << 4);
            case GetSubsystem: return node == Group ? Identity : 0;
            case GetConfiguration: return Configuration(node);
            case FunctionReset when node == Group: Reset(); return 0;
            default: return 0;
        }

        void Change(HdaConverter? changed, Action<HdaConverter> change)
        {
            if (changed == null) return;
            change(changed);
            Follow();
        }
    }

    /// <summary>What moves is as the converters and the controller's streams say.</summary>
    internal void Follow()
    {
        FollowFormats();
        _out.IsActive = _dac.IsRunning;
        if (_in != null) _in.IsActive = _adc!.IsRunning;
    }

    void FollowFormats()
    {
        _out.Format = _dac.Sound;
        _out.Volume = _dac.Volume;
        if (_in != null) _in.Format = _adc!.Sound;
    }

    uint Identity => Qemu | _kind | (_hasMixer ? WithMixer : Plain);
    int NodeCount => _adc == null ? LineOut + 1 : Nodes;

    /// <summary>What a widget is connected to.</summary>
    static uint Source(int node) => node switch { LineOut => Dac, Adc => LineIn, _ => 0u };

    uint Configuration(int node) => node switch
    {
        LineOut => _kind == MicroKind ? SpeakerInside : LineOutJack,
        LineIn => _kind == MicroKind ? MicrophoneJack : LineInJack,
        _ => 0,
    };

    /// <summary>Section 7.3.4.</summary>
    uint Parameter(int node, uint parameter) => (node, parameter) switch
    {
        (Root or Group, VendorId) => Identity,
        (Root, RevisionId) => Revision,
        (Root, SubordinateNodes) => Group << 16 | 1,
        (Group, SubordinateNodes) => Dac << 16 | (uint)(NodeCount - Dac),
        (Group, FunctionType) => AudioFunction,
        (Group, FunctionCapabilities) => 0x0808,                   // delays of 8 samples
        (Group or Dac or Adc, PcmRates) => Rates,
        (Group or Dac or Adc, StreamFormats) => Pcm,
        (Group, PowerStates) => 0x0F,                              // D0 to D3
        (Dac, WidgetCapabilities) => IsStereo | FormatOverride | (_hasMixer ? OutputAmplifier | AmplifierOverride : 0),
        (LineOut, WidgetCapabilities) => PinWidget | IsStereo | HasConnections,
        (Adc, WidgetCapabilities) => InputWidget | IsStereo | FormatOverride | HasConnections
            | (_hasMixer ? InputAmplifierPresent | AmplifierOverride : 0),
        (LineIn, WidgetCapabilities) => PinWidget | IsStereo,
        (LineOut, PinCapabilities) => CanOutput,
        (LineIn, PinCapabilities) => CanInput,
        (Dac, OutputAmplifierCapabilities) or (Adc, InputAmplifierCapabilities) when _hasMixer => Amplifier,
        (LineOut or Adc, ConnectionLength) => 1,
        _ => 0,
    };
}
