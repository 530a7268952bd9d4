using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>SMRAM, the register by which Intel's host bridges give the screen's window to system management mode. Spec:
/// 82441FX, order 290549, section 3.2.23; 3 Series, order 316966, section 5.1.24.</summary>
/// <remarks>Deviation: D_CLS hides nothing: data is where code is.</remarks>
sealed class SmramControl
{
    const byte Opened = 0x40, Closed = 0x20, Locked = 0x10, Enabled = 0x08, Base = 0x02;

    readonly PciConfig _config;
    readonly int _at;

    /// <param name="at">Where the register is.</param>
    public SmramControl(PciConfig config, int at)
    {
        (_config, _at) = (config, at);
        config.Define(at, Base);
        Settle();
    }

    /// <summary>D_OPEN: every access finds RAM in the window.</summary>
    public bool IsOpen => Has(Opened);

    /// <summary>G_SMRAME: those of system management mode do.</summary>
    public bool IsEnabled => Has(Enabled);

    /// <summary>D_LCK: until the next reset all is as it is, but closed.</summary>
    public bool IsLocked => Has(Locked);

    /// <summary>After the register was reset, loaded or written.</summary>
    public void Settle()
    {
        if (IsLocked) _config[_at] &= unchecked((byte)~Opened);
        _config.SetWritable(_at, IsLocked ? Closed : (byte)(Opened | Closed | Locked | Enabled));
    }

    bool Has(byte bit) => (_config[_at] & bit) != 0;
}
