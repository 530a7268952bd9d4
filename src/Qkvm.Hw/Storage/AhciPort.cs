using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using static Qkvm.Hw.Storage.AhciRegisters;

namespace Qkvm.Hw.Storage;

/// <summary>A port of the controller with its drive: its registers, and what resets them. AHCI 1.3.1, section 3.3. The
/// bus "ide.0" of users, of one place.</summary>
public sealed partial class AhciPort : IQueuedIdePort, IIdeBus
{
    readonly Ahci _controller;
    readonly int _index;
    readonly uint[] _registers = new uint[PortSize / 4];
    IdeDrive? _drive;
    bool _awaitsReset;                                             // its end is told by the drive's signature
    bool _signatureWaits;                                          // for a place to be put, which FRE gives
    bool _softwareReset;                                           // SRST is set

    internal AhciPort(Ahci controller, int index, string id, int firstPlace)
    {
        (_controller, _index, Id, FirstPlace) = (controller, index, id, firstPlace);
        _direct = new AhciRegions(_dma = () => controller.Dma);
        Reset(isPowerOn: true);
    }

    /// <summary>"ide.0".</summary>
    public string Id { get; }
    public int FirstPlace { get; }
    public IdeDrive? Drive => _drive;

    public bool IsFull => _drive != null;

    /// <summary>Its interrupt bits, and which of them the guest wants to hear of.</summary>
    internal bool WantsAttention => (this[PxIS] & this[PxIE]) != 0;

    public int UnitFor(Properties properties) => (int?)properties.NumberOrAuto("unit") ?? 0;

    void IBusWires.Plug(IDevice device, Properties properties, DeviceSite site)
    {
        if (UnitFor(properties) is not 0 and int unit)
            throw properties.Error($"unit={unit}: bus '{Id}' has room for one drive, which is unit 0");
        if (_drive is { } other)
            throw properties.Error($"bus '{Id}' has a drive already, {other.Name}; choose another with bus=");
        Attach((IdeDrive)device);
    }

    string IBusWires.PathOf(IDevice device) => $"drive@{_index:x}";

    public void Attach(IdeDrive drive)
    {
        _drive = drive;
        (drive.Port, drive.Unit) = (this, 0);
        Reset(isPowerOn: true);
    }

    ref uint this[int offset] => ref _registers[offset / 4];

    /// <summary>Of the machine or, not at power on, of the controller (section 10.4.3): that keeps addresses.</summary>
    internal void Reset(bool isPowerOn)
    {
        foreach (Register register in PortRegisters)
            if (isPowerOn || register.Offset > PxFBU) this[register.Offset] = register.Reset;
        if (_drive == null)
        {
            Abandon();
            return;
        }
        this[PxSSTS] = Present;
        ResetDrive(isPowerOn);
    }

    /// <summary>The drive resets, now or when its requests have ended: until then it is busy.</summary>
    void ResetDrive(bool isPowerOn = false)
    {
        Abandon();
        this[PxSIG] = NoSignature;
        (_signatureWaits, _softwareReset, _awaitsReset) = (false, false, true);
        if (isPowerOn) _drive?.Reset();
        else _drive?.SoftReset();
    }

    internal uint Read(int offset) => offset switch
    {
        PxCMD => this[PxCMD] | ((this[PxCMD] & FRE) != 0 ? FR : 0) | (IsEngineOn ? CR : 0),
        PxTFD => TaskFile,
        _ => this[offset],
    };

    uint TaskFile => _drive is not { } drive || _signatureWaits ? NoStatus
        : (uint)(drive.ReadRegister(1, false) << 8 | drive.ReadRegister(7, false)) | (_softwareReset ? Busy : 0u);

    internal void Write(int offset, uint value)
    {
        if (Find(PortRegisters, offset) is not { } register) return;
        uint before = this[offset], now = Written(register, before, value);
        if (offset is PxCI or PxSACT && (this[PxCMD] & ST) == 0) return;
        this[offset] = now;
        switch (offset)
        {
            case PxCMD: CommandWritten(before, now); break;
            case PxSCTL: ControlWritten(before & DET, now & DET); break;
            case PxCI: Advance(); break;
            case PxIS or PxIE: _controller.PortChanged(_index, isNew: (now & ~before) != 0); break;
        }
    }

    void CommandWritten(uint before, uint now)
    {
        if ((now & FRE) != 0 && _signatureWaits) TellSignature();
        if ((before & ~now & ST) != 0)
        {
            (this[PxCI], this[PxSACT]) = (0, 0);
            this[PxCMD] &= ~CCSMask;
            Abandon();
        }
        else if ((now & ~before & ST) != 0) Advance();
    }

    /// <summary>DET: 1 holds the link in reset (COMRESET), which going back to 0 ends; 4 switches the interface
    /// off.</summary>
    /// <remarks>Deviation: see <see cref="Ahci"/> about PxSERR.</remarks>
    void ControlWritten(uint before, uint now)
    {
        if (before == now || _drive == null) return;
        this[PxSSTS] = now switch { 0 => Present, Offline => Offline, _ => 0 };
        if (now == Initialize || now == 0 && before == Offline) ResetDrive();
    }

    void IIdePort.ResetDone(IdeDrive drive)
    {
        if (!_awaitsReset) return;
        _awaitsReset = false;
        _signatureWaits = true;
        if ((this[PxCMD] & FRE) != 0) TellSignature();
    }

    void TellSignature()
    {
        IdeDrive drive = _drive!;
        _signatureWaits = false;
        this[PxSIG] = (uint)(drive.ReadRegister(5, false) << 24 | drive.ReadRegister(4, false) << 16
            | drive.ReadRegister(3, false) << 8 | drive.ReadRegister(2, false));
        PostRegisters(interrupt: true);
        Advance();
    }

    void Raise(uint bits)
    {
        bool isNew = (bits & ~this[PxIS] & this[PxIE]) != 0;
        this[PxIS] |= bits;
        _controller.PortChanged(_index, isNew);
    }

    internal void Exchange(StateStream state)
    {
        foreach (Register register in PortRegisters) state.Field(register.Name, ref this[register.Offset]);
        state.Field("awaits-reset", ref _awaitsReset);
        state.Field("signature-waits", ref _signatureWaits);
        state.Field("software-reset", ref _softwareReset);
        state.Field("halted", ref _isHalted);
        state.Field("running", ref _running, -1, Slots - 1);
        state.Field("next-slot", ref _nextSlot, 0, Slots - 1);
        _signatureWaits &= _drive != null;
    }
}
