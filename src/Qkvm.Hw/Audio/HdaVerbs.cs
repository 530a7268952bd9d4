namespace Qkvm.Hw.Audio;

/// <summary>Numbers of verbs, parameters and the nodes of our codecs. Spec: High Definition Audio 1.0a, sections 7.3.3
/// and 7.3.4.</summary>
public static class HdaVerbs
{
    // Nodes; the last two where there is an input
    public const int Root = 0, Group = 1, Dac = 2, LineOut = 3, Adc = 4, LineIn = 5, Nodes = 6;

    // Verbs of 4 bits, with 16 bits of payload
    public const uint SetFormat = 0x2, SetAmplifier = 0x3, GetFormat = 0xA, GetAmplifier = 0xB;

    // Verbs of 12 bits, with 8
    public const uint GetParameter = 0xF00, GetConnections = 0xF02, SetPower = 0x705, GetPower = 0xF05,
        SetStream = 0x706, GetStream = 0xF06, SetPin = 0x707, GetPin = 0xF07, GetConfiguration = 0xF1C,
        GetSubsystem = 0xF20, FunctionReset = 0x7FF;

    // Parameters
    public const uint VendorId = 0x00, RevisionId = 0x02, SubordinateNodes = 0x04, FunctionType = 0x05,
        FunctionCapabilities = 0x08, WidgetCapabilities = 0x09, PcmRates = 0x0A, StreamFormats = 0x0B,
        PinCapabilities = 0x0C, InputAmplifierCapabilities = 0x0D, ConnectionLength = 0x0E, PowerStates = 0x0F,
        OutputAmplifierCapabilities = 0x12;

    // Their values
    public const uint AudioFunction = 1, Pcm = 1, IsStereo = 0x01, InputAmplifierPresent = 0x02, OutputAmplifier = 0x04,
        AmplifierOverride = 0x08, FormatOverride = 0x10, HasConnections = 0x100, InputWidget = 1 << 20,
        PinWidget = 4 << 20, CanOutput = 0x10, CanInput = 0x20;

    /// <summary>16 bits; 16 kHz to 96 kHz.</summary>
    public const uint Rates = 1 << 17 | 0x1FC;

    const uint Steps = HdaConverter.Steps;

    /// <summary>Steps of 1 dB up to 0 dB, and mute.</summary>
    public const uint Amplifier = 1u << 31 | 3 << 16 | Steps << 8 | Steps;

    public const byte PinOutput = 0x40, PinInput = 0x20;
}
