using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>A cable with two drives and the host's end of it: command block, control block, interrupt. The bus "ide.0"
/// of users. ATA/ATAPI-7 volume 2 (T13/1532D), chapter 5.</summary>
/// <remarks>A place without a drive reads as zeros.</remarks>
public sealed class IdeChannel : IIdePort, IIdeBus, IRegisterBank
{
    public const int Drives = 2;

    // Command block offsets; 1 to 5 are the drives' own
    const ulong Data = 0, DeviceHead = 6, StatusCommand = 7;

    // Device Control bits
    const byte InterruptDisable = 2, SoftwareReset = 4, HighOrderByte = 0x80;
    const byte Busy = 0x80;                                        // in Status
    const byte SelectSlave = 0x10, ExecuteDiagnostic = 0x90;

    readonly IdeDrive?[] _drives = new IdeDrive?[Drives];
    readonly IrqLine _irq;
    byte _control;
    int _selected;

    /// <param name="index">Its number on its controller.</param>
    public IdeChannel(string id, int index, IrqLine irq)
    {
        (Id, Index) = (id, index);
        _irq = irq;
        ControlBlock = new ControlRegister(this);
    }

    /// <summary>"ide.0".</summary>
    public string Id { get; }
    public int Index { get; }

    /// <summary>The one byte of the control block: Device Control, and Alternate Status.</summary>
    public IRegisterBank ControlBlock { get; }

    /// <summary>The bus master that moves DMA transfers, where there is one.</summary>
    public IdeBusMaster? BusMaster { get; internal set; }

    public IdeDrive? this[int unit] => _drives[unit];

    IdeDrive? Selected => _drives[_selected];

    /// <param name="unit">0 master, 1 slave, -1 the first that is free.</param>
    public void Attach(IdeDrive drive, int unit = -1, string owner = "")
    {
        if (unit < 0) unit = Array.IndexOf(_drives, null);
        if (unit < 0)
            throw new ConfigurationException($"{owner}: bus '{Id}' has two drives already; choose another with bus=");
        if (unit >= Drives) throw new ConfigurationException($"{owner}: unit={unit} is not 0 (master) or 1 (slave)");
        if (_drives[unit] is { } other)
            throw new ConfigurationException($"{owner}: unit {unit} of bus '{Id}' is taken by {other.Name}; give " +
                "another unit= or bus=");
        _drives[unit] = drive;
        (drive.Port, drive.Unit) = (this, unit);
    }

    public bool IsFull => Array.IndexOf(_drives, null) < 0;

    public int FirstPlace => Index * Drives;

    public int UnitFor(Properties properties) =>
        (int?)properties.NumberOrAuto("unit") ?? Math.Max(0, Array.IndexOf(_drives, null));

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site) =>
        Attach((IdeDrive)device, properties.NumberOrAuto("unit") == null ? -1 : UnitFor(properties), properties.Owner);

    string IBusWires.PathOf(IDevice device) => $"drive@{Index:x}";

    public void Reset()
    {
        foreach (IdeDrive? drive in _drives) drive?.Reset();
        (_control, _selected) = (0, 0);
        UpdateInterrupt();
    }

    /// <summary>Its own state; the drives are devices themselves.</summary>
    public void Exchange(StateStream state)
    {
        bool level = _irq.Level;
        state.Field("irq", ref level);
        state.Field("control", ref _control);
        state.Field("selected", ref _selected);
        if (_selected is < 0 or >= Drives) throw new InvalidStateException($"{Id}: drive {_selected} is selected");
        if (state.IsLoading) _irq.Restore(level);
    }

    public ulong Read(ulong offset, int size)
    {
        if (Selected is not { } drive) return 0;
        switch (offset)
        {
            case Data: return drive.ReadData(size);
            case StatusCommand: return IsResetting ? Busy : drive.ReadStatus();
            default: return drive.ReadRegister((int)offset, (_control & HighOrderByte) != 0);
        }
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == Data) { Selected?.WriteData(size, value); return; }
        _control &= unchecked((byte)~HighOrderByte);
        if (offset == StatusCommand) { Command((byte)value); return; }
        if (offset == DeviceHead) _selected = ((byte)value & SelectSlave) != 0 ? 1 : 0;
        foreach (IdeDrive? drive in _drives) drive?.WriteRegister((int)offset, (byte)value);
        if (offset == DeviceHead) UpdateInterrupt();
    }

    void IIdePort.InterruptChanged(IdeDrive drive)
    {
        if (drive == Selected) UpdateInterrupt();
    }

    void IIdePort.ResetDone(IdeDrive drive) { }                    // the host polls for the drives' status

    void IIdePort.DmaReady(IdeDrive drive) => BusMaster?.DriveReady(drive);

    void IIdePort.DmaFinished(IdeDrive drive, long written) => BusMaster?.DriveFinished(drive, written);

    /// <summary>The selected drive, if it waits for a DMA transfer.</summary>
    internal IdeDrive? WaitingForDma => Selected is { WantsDma: true } drive ? drive : null;

    void Command(byte command)
    {
        if (command != ExecuteDiagnostic) { Selected?.WriteCommand(command); return; }
        _selected = 0;
        foreach (IdeDrive? drive in _drives) drive?.SoftReset();
        _drives[0]?.SignalDiagnosed();
    }

    void WriteControl(byte value)
    {
        bool wasReset = (_control & SoftwareReset) != 0;
        _control = value;
        if ((value & SoftwareReset) != 0 && !wasReset)
        {
            _selected = 0;
            foreach (IdeDrive? drive in _drives) drive?.SoftReset();
        }
        UpdateInterrupt();
    }

    void UpdateInterrupt()
    {
        bool level = Selected is { Interrupt: true } && (_control & InterruptDisable) == 0;
        if (level && !_irq.Level) BusMaster?.InterruptRaised();
        _irq.Set(level);
    }

    /// <summary>While SRST is set the drives are busy.</summary>
    bool IsResetting => (_control & SoftwareReset) != 0;

    byte AlternateStatus => Selected == null ? (byte)0 : IsResetting ? Busy : Selected.ReadRegister(7, false);

    sealed class ControlRegister(IdeChannel channel) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => channel.AlternateStatus;
        public void Write(ulong offset, int size, ulong value) => channel.WriteControl((byte)value);
    }
}
