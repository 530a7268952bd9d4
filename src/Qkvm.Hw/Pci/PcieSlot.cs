using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>The hot-plug controller of a PCI Express port: presence, attention button, power and their interrupt. Spec:
/// PCI Express Base 3.0, section 6.7, registers 7.8.9 to 7.8.11.</summary>
/// <param name="express">Where its registers are.</param>
/// <param name="eject">The guest has switched the slot off: what is in it goes.</param>
/// <param name="notify">The interrupt's level.</param>
sealed class PcieSlot(PciExpress express, Action eject, Action<bool> notify)
{
    // Slot Capabilities
    const uint AttentionButton = 0x01, PowerController = 0x02, AttentionIndicator = 0x08, PowerIndicator = 0x10,
        Surprise = 0x20, HotPlug = 0x40, ElectromechanicalInterlock = 0x2_0000;
    const int NumberShift = 19;

    // Slot Control
    const ushort HotPlugInterrupt = 0x0020, IndicatorsOff = 0x03C0, PowerIndicatorOn = 0x0100,
        PowerIndicatorMask = 0x0300, PowerOff = 0x0400, WritableControl = 0x07F9;

    // Slot Status; the enables of Slot Control stand at the events' own places
    const ushort ButtonPressed = 0x0001, PresenceChanged = 0x0008, CommandCompleted = 0x0010, PresenceState = 0x0040,
        ClearableStatus = 0x011F, Events = 0x001F;

    bool _isEjecting;                                              // asked for once, and not done yet
    bool _wasOff;                                                  // derived: of Slot Control, when last looked at

    bool _hasPowerController;                                      // configuration

    public void Define(PciePortOptions options)
    {
        _hasPowerController = options.HasPowerController;
        express.DefineSlot(AttentionButton | AttentionIndicator | PowerIndicator | ElectromechanicalInterlock
            | (_hasPowerController ? PowerController : 0) | (options.HasHotPlug ? Surprise | HotPlug : 0)
            | (uint)options.Slot << NumberShift, EmptyControl,
            (ushort)(_hasPowerController ? WritableControl : WritableControl & ~PowerOff), ClearableStatus);
    }

    /// <summary>What is plugged at power-on is on.</summary>
    public void Reset(bool isOccupied)
    {
        _isEjecting = false;
        express[PciExpress.SlotStatus] = isOccupied ? PresenceState : (ushort)0;
        express[PciExpress.SlotControl] = (ushort)(isOccupied ? IndicatorsOff & ~PowerIndicatorMask | PowerIndicatorOn
            : EmptyControl);
        express.SetLinkUp(isOccupied);
        _wasOff = IsOff;
        notify(false);
    }

    /// <summary>Something was put in while the machine runs: as if by hand, and the button pressed.</summary>
    public void Insert()
    {
        express[PciExpress.SlotStatus] |= PresenceState | PresenceChanged | ButtonPressed;
        express.SetLinkUp(true);
        Update();
    }

    /// <summary>Asks the guest to let go: presses the button, or takes it out where power is off already.</summary>
    public void RequestRemoval()
    {
        if ((express[PciExpress.SlotControl] & PowerOff) != 0) { Eject(); return; }
        express[PciExpress.SlotStatus] |= ButtonPressed;
        Update();
    }

    public void Removed()
    {
        _isEjecting = false;
        express[PciExpress.SlotStatus] = (ushort)(express[PciExpress.SlotStatus] & ~PresenceState | PresenceChanged);
        express.SetLinkUp(false);
        Update();
    }

    /// <summary>After the guest wrote configuration bytes.</summary>
    public void ConfigWritten(int offset, int size)
    {
        if (express.IsSlotControl(offset, size))
        {
            express[PciExpress.SlotStatus] |= CommandCompleted;
            bool wasOff = _wasOff;
            _wasOff = IsOff;
            if (IsOff && !wasOff && (express[PciExpress.SlotStatus] & PresenceState) != 0) Eject();
        }
        Update();
    }

    public void Exchange(StateStream state)
    {
        state.Field("ejecting", ref _isEjecting);
        if (state.IsLoading) _wasOff = IsOff;
    }

    public bool IsRaised
    {
        get
        {
            ushort control = express[PciExpress.SlotControl];
            return (control & HotPlugInterrupt) != 0 && (control & express[PciExpress.SlotStatus] & Events) != 0;
        }
    }

    ushort EmptyControl => (ushort)(_hasPowerController ? IndicatorsOff | PowerOff
        : IndicatorsOff & ~PowerIndicatorMask);

    /// <summary>The indicator, and the power where software switches it.</summary>
    bool IsOff => express[PciExpress.SlotControl] is var control
        && (control & PowerIndicatorMask) == PowerIndicatorMask
        && (!_hasPowerController || (control & PowerOff) != 0);

    void Eject()
    {
        if (_isEjecting) return;
        _isEjecting = true;
        eject();
    }

    void Update() => notify(IsRaised);
}
