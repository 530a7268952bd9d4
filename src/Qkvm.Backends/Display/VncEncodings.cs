using Qkvm.Backends.Display.Encodings;

namespace Qkvm.Backends.Display;

/// <summary>What a viewer can decode and wants to be told of, as SetEncodings lists it. Spec: RFC 6143, section 7.5.2,
/// and the protocol's community version.</summary>
/// <param name="isLossy">Pictures need not be exact where the viewer says so, too.</param>
sealed class VncEncodings(bool isLossy) : IDisposable
{
    public const int DesktopSize = -223, ExtendedDesktopSize = -308, PointerTypeChange = -257, ExtendedKeys = -258,
        LedState = -261, DesktopName = -307, Cursor = -239, AlphaCursor = -314, Clipboard = -1063131698,
        Power = -309, VmwareLedState = 0x574D_5668, Fence = -312, ContinuousUpdates = -313;

    public const int CopyRect = 1;

    const int LowestLevel = -256, HighestLevel = -247, LowestQuality = -32, HighestQuality = -23;

    readonly Dictionary<int, VncEncoder> _encoders = [];           // their streams go on while others are in use
    VncEncoding? _chosen;
    int _level = VncEncoding.DefaultLevel;
    int? _quality;

    public bool CanResize { get; private set; }
    public bool CanChangeLayout { get; private set; }
    public bool CanChangePointer { get; private set; }
    public bool HasExtendedKeys { get; private set; }
    public bool HasFence { get; private set; }
    public bool HasContinuousUpdates { get; private set; }

    public bool CanCopy { get; private set; }
    public bool HasClipboard { get; private set; }

    /// <summary>The kind of pointers that it draws itself, the richer one; 0: none.</summary>
    public int Pointers { get; private set; }

    /// <summary>Of the keyboard's lights; 0: it does not want them.</summary>
    public int Lights { get; private set; }

    /// <summary>The first that it names of those that there are; raw, which all know, where it names none.</summary>
    public VncEncoder Encoder
    {
        get
        {
            VncEncoding chosen = _chosen ?? VncEncoding.Catalogue[0];
            if (!_encoders.TryGetValue(chosen.Number, out VncEncoder? encoder))
                _encoders[chosen.Number] = encoder = chosen.Create(_level);
            encoder.Quality = isLossy ? _quality : null;
            return encoder;
        }
    }

    /// <summary>A new list begins.</summary>
    public void Clear()
    {
        CanResize = CanChangeLayout = CanChangePointer = HasExtendedKeys = HasFence = HasContinuousUpdates = false;
        (CanCopy, HasClipboard, Pointers, _quality) = (false, false, 0, null);
        (_chosen, _level, Lights) = (null, VncEncoding.DefaultLevel, 0);
    }

    /// <summary>One of the list.</summary>
    public void Take(int encoding)
    {
        switch (encoding)
        {
            case DesktopSize: CanResize = true; break;
            case ExtendedDesktopSize: CanChangeLayout = true; break;
            case PointerTypeChange: CanChangePointer = true; break;
            case ExtendedKeys: HasExtendedKeys = true; break;
            case Fence: HasFence = true; break;
            case ContinuousUpdates: HasContinuousUpdates = true; break;
            case LedState or VmwareLedState when Lights == 0: Lights = encoding; break;
            case CopyRect: CanCopy = true; break;
            case Clipboard: HasClipboard = true; break;
            case AlphaCursor: Pointers = AlphaCursor; break;
            case Cursor when Pointers == 0: Pointers = Cursor; break;
            case >= LowestQuality and <= HighestQuality: _quality = encoding - LowestQuality; break;
            case >= LowestLevel and <= HighestLevel: _level = encoding - LowestLevel; break;
            default: _chosen ??= Array.Find(VncEncoding.Catalogue, one => one.Number == encoding); break;
        }
    }

    public void Dispose()
    {
        foreach (VncEncoder encoder in _encoders.Values) encoder.Dispose();
        _encoders.Clear();
    }
}
