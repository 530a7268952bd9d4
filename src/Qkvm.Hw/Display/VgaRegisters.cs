using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Display;

/// <summary>The registers of IBM's VGA at ports 3B0h to 3DFh. Spec: IBM Personal System/2 Hardware Interface Technical
/// Reference, "Video Graphics Array"; names are its.</summary>
/// <remarks>Deviations: no timing; Input Status 1 toggles display enable and vertical retrace at each read, so that
/// loops that wait for either end. The attribute palette can be written whether or not Palette Address Source is
/// set.</remarks>
public sealed class VgaRegisters : IRegisterBank
{
    public const ulong FirstPort = 0x3B0, PortCount = 0x30;

    /// <summary>The ports that answer at all; those between belong to others (a printer port at 3BCh).</summary>
    public static readonly (ulong Port, ulong Count)[] Ports =
        [(0x3B4, 2), (0x3BA, 1), (0x3C0, 0x10), (0x3D4, 2), (0x3DA, 1)];

    // Ports
    const int CrtcIndexMono = 0x3B4, CrtcDataMono = 0x3B5, StatusMono = 0x3BA, AttributeIndex = 0x3C0,
        AttributeRead = 0x3C1, MiscWrite = 0x3C2, SequencerIndex = 0x3C4, SequencerData = 0x3C5, PelMask = 0x3C6,
        PelReadIndex = 0x3C7, PelWriteIndex = 0x3C8, PelData = 0x3C9, FeatureRead = 0x3CA, MiscRead = 0x3CC,
        GraphicsIndex = 0x3CE, GraphicsData = 0x3CF, CrtcIndexColor = 0x3D4, CrtcDataColor = 0x3D5, StatusColor = 0x3DA;

    // Sequencer
    public const int ClockingMode = 1, MapMask = 2, CharacterMap = 3, MemoryMode = 4;
    // Graphics controller
    public const int SetReset = 0, EnableSetReset = 1, ColorCompare = 2, DataRotate = 3, ReadMapSelect = 4,
        GraphicsMode = 5, Miscellaneous = 6, ColorDontCare = 7, BitMask = 8;
    // CRT controller
    public const int HorizontalDisplayEnd = 1, Overflow = 7, MaximumScanLine = 9, CursorStart = 0xA, CursorEnd = 0xB,
        StartAddressHigh = 0xC, StartAddressLow = 0xD, CursorHigh = 0xE, CursorLow = 0xF, VerticalRetraceEnd = 0x11,
        VerticalDisplayEnd = 0x12, Offset = 0x13, CrtcMode = 0x17, LineCompare = 0x18;
    // Attribute controller
    public const int ModeControl = 0x10, ColorPlaneEnable = 0x12, ColorSelect = 0x14;

    const byte ColorAddresses = 1, ScreenOn = 0x20, Protect = 0x80;
    const byte Retrace = 8, DisplayDisabled = 1;

    static readonly byte[] SequencerMasks = [0x03, 0x3D, 0x0F, 0x3F, 0x0E, 0, 0, 0];
    static readonly byte[] GraphicsMasks = [0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF];

    public readonly byte[] Sequencer = new byte[8];
    public readonly byte[] Graphics = new byte[16];
    public readonly byte[] Attribute = new byte[32];
    public readonly byte[] Crtc = new byte[256];

    /// <summary>256 times red, green, blue.</summary>
    public readonly byte[] Palette = new byte[768];
    readonly byte[] _pelCache = new byte[3];
    byte _sequencerIndex, _graphicsIndex, _attributeIndex, _crtcIndex, _misc, _feature, _status, _pelMask, _pelRead,
        _pelWrite, _pelPart;
    bool _attributeData, _pelReading;

    public VgaRegisters() => Reset();

    /// <summary>The palette's components have 8 bits instead of 6; follows the VBE registers.</summary>
    public bool WidePalette { get; set; }

    public byte PelMaskValue => _pelMask;
    public bool IsScreenOn => (_attributeIndex & ScreenOn) != 0;

    public void Reset()
    {
        Array.Clear(Sequencer);
        Array.Clear(Graphics);
        Array.Clear(Attribute);
        Array.Clear(Crtc);
        Array.Clear(Palette);
        Array.Clear(_pelCache);
        _sequencerIndex = _graphicsIndex = _attributeIndex = _crtcIndex = _feature = _status = _pelRead = _pelWrite =
            _pelPart = 0;
        _misc = ColorAddresses;
        _pelMask = 0xFF;
        _attributeData = _pelReading = false;
        WidePalette = false;
    }

    /// <param name="offset">From port 3B0h.</param>
    public ulong Read(ulong offset, int size)
    {
        int port = (int)(FirstPort + offset);
        if (!Answers(port)) return 0xFF;
        switch (port)
        {
            case AttributeIndex: return _attributeData ? (byte)0 : _attributeIndex;
            case AttributeRead: return (_attributeIndex & 0x1F) < 0x15 ? Attribute[_attributeIndex & 0x1F] : (byte)0;
            case MiscWrite: return 0;                              // Input Status 0: no switch, no interrupt
            case SequencerIndex: return _sequencerIndex;
            case SequencerData: return Sequencer[_sequencerIndex & 7];
            case PelMask: return _pelMask;
            case PelReadIndex: return _pelReading ? (byte)3 : (byte)0; // "PEL Address Read Mode": both bits set
            case PelWriteIndex: return _pelWrite;
            case PelData: return ReadPalette();
            case FeatureRead: return _feature;
            case MiscRead: return _misc;
            case GraphicsIndex: return _graphicsIndex;
            case GraphicsData: return Graphics[_graphicsIndex & 15];
            case CrtcIndexMono or CrtcIndexColor: return _crtcIndex;
            case CrtcDataMono or CrtcDataColor: return Crtc[_crtcIndex];
            case StatusMono or StatusColor:
                _attributeData = false;
                return _status ^= Retrace | DisplayDisabled;
            default: return 0;
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int port = (int)(FirstPort + offset);
        byte data = (byte)value;
        if (!Answers(port)) return;
        switch (port)
        {
            case AttributeIndex: WriteAttribute(data); break;
            case MiscWrite: _misc = (byte)(data & ~0x10); break;
            case SequencerIndex: _sequencerIndex = (byte)(data & 7); break;
            case SequencerData: Sequencer[_sequencerIndex] = (byte)(data & SequencerMasks[_sequencerIndex]); break;
            case PelMask: _pelMask = data; break;
            case PelReadIndex: (_pelRead, _pelPart, _pelReading) = (data, 0, true); break;
            case PelWriteIndex: (_pelWrite, _pelPart, _pelReading) = (data, 0, false); break;
            case PelData: WritePalette(data); break;
            case GraphicsIndex: _graphicsIndex = (byte)(data & 15); break;
            case GraphicsData:
                if (_graphicsIndex < GraphicsMasks.Length)
                    Graphics[_graphicsIndex] = (byte)(data & GraphicsMasks[_graphicsIndex]);
                break;
            case CrtcIndexMono or CrtcIndexColor: _crtcIndex = data; break;
            case CrtcDataMono or CrtcDataColor: WriteCrtc(data); break;
            case StatusMono or StatusColor: _feature = (byte)(data & 0x10); break;
        }
    }

    /// <summary>A palette entry as 0x00RRGGBB.</summary>
    public uint Color(int index)
    {
        int at = (index & _pelMask) * 3, shift = WidePalette ? 0 : 2;
        return Component(at) << 16 | Component(at + 1) << 8 | Component(at + 2);

        uint Component(int i)
        {
            uint c = Palette[i];
            return shift == 0 ? c : (c & 63) << 2 | (c & 63) >> 4;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Block("sequencer", Sequencer);
        state.Block("graphics", Graphics);
        state.Block("attribute", Attribute);
        state.Block("crtc", Crtc);
        state.Block("palette", Palette);
        state.Block("palette-cache", _pelCache);
        state.Field("sequencer-index", ref _sequencerIndex);
        state.Field("graphics-index", ref _graphicsIndex);
        state.Field("attribute-index", ref _attributeIndex);
        state.Field("attribute-data", ref _attributeData);
        state.Field("crtc-index", ref _crtcIndex);
        state.Field("misc", ref _misc);
        state.Field("feature", ref _feature);
        state.Field("status", ref _status);
        state.Field("pel-mask", ref _pelMask);
        state.Field("pel-read", ref _pelRead);
        state.Field("pel-write", ref _pelWrite);
        state.Field("pel-part", ref _pelPart);
        state.Field("pel-reading", ref _pelReading);
        if (_pelPart > 2 || _sequencerIndex > 7 || _graphicsIndex > 15)
            throw new InvalidStateException("VGA: impossible index");
    }

    /// <summary>3Bx answers in monochrome, 3Dx in colour mode.</summary>
    bool Answers(int port) => (port & 0x3F0) switch
    {
        0x3B0 => (_misc & ColorAddresses) == 0,
        0x3D0 => (_misc & ColorAddresses) != 0,
        _ => true,
    };

    void WriteAttribute(byte data)
    {
        _attributeData = !_attributeData;
        if (_attributeData) { _attributeIndex = (byte)(data & 0x3F); return; }
        int index = _attributeIndex & 0x1F;
        Attribute[index] = index switch
        {
            < 0x10 => (byte)(data & 0x3F),
            0x10 => (byte)(data & ~0x10),
            0x12 => (byte)(data & 0x3F),
            0x13 or 0x14 => (byte)(data & 0x0F),
            _ => data,
        };
    }

    void WriteCrtc(byte data)
    {
        bool isProtected = (Crtc[VerticalRetraceEnd] & Protect) != 0 && _crtcIndex <= Overflow;
        if (!isProtected) Crtc[_crtcIndex] = data;
        // line compare's bit 8 stays open
        else if (_crtcIndex == Overflow) Crtc[Overflow] = (byte)(Crtc[Overflow] & ~0x10 | data & 0x10);
    }

    byte ReadPalette()
    {
        byte value = Palette[_pelRead * 3 + _pelPart];
        if (++_pelPart == 3) (_pelPart, _pelRead) = (0, (byte)(_pelRead + 1));
        return value;
    }

    void WritePalette(byte data)
    {
        _pelCache[_pelPart] = data;
        if (++_pelPart < 3) return;
        _pelCache.CopyTo(Palette, _pelWrite * 3);
        (_pelPart, _pelWrite) = (0, (byte)(_pelWrite + 1));
    }
}
