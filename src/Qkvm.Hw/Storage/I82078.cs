using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>The PC's diskette controller in AT mode. Spec: Intel 82078 44-pin data sheet, order 290475; names are the
/// sheet's.</summary>
/// <remarks>Deviations: two drives; what a command asks for has happened when its data has moved: motors run and arms
/// arrive at once, transfers go to the track that they name; deleted data is data; no scan, save and restore, or
/// drive specification.</remarks>
public sealed partial class I82078 : IDevice, IRegisterBank, IBusWires
{
    public const int Drives = 2;
    public const ulong DefaultBase = 0x3F0;
    public const int DefaultIrq = 6, DefaultDma = 2;

    public static readonly DeviceModel Model = new("isa-fdc", BusKind.Isa,
        [
            Property.Number("iobase", DefaultBase, max: 0xFFF8), Property.Number("irq", DefaultIrq, max: 15),
            Property.Number("dma", DefaultDma, max: 3),
            Property.Enum("fallback", "288", [.. FloppyDrive.TypeNames, "auto"], "drive type without a disk"),
        ],
        static (properties, site) =>
        {
            if (site.Board.IsaDma is not { } dma) throw properties.Error("this machine has no ISA DMA");
            var controller = new I82078(site.Irq((int)properties.Number("irq")), dma, (int)properties.Number("dma"))
            {
                FirstAddress = properties.Number("iobase"),
                Fallback = FloppyDrive.TypeOf(properties.Text("fallback")) ?? FloppyType.Inch3,
            };
            controller.Map((at, region) => site.MapPorts(at, region));
            site.AddBus(controller.NewBus(site.NameBus(BusKind.Floppy)));
            return controller;
        }) { Category = DeviceCategory.Storage, Description = "virtual floppy controller" };

    // Offsets from the base, section 2.1
    const int FirstPort = 2, Dor = 2, Tdr = 3, MsrDsr = 4, Fifo = 5, DirCcr = 7;

    // Digital output register
    const byte SelectMask = 3, NotReset = 4, DmaGate = 8, MotorShift = 4;

    // Main status register; data rate select and digital input registers
    const byte Rqm = 0x80, Dio = 0x40, NonDmaPhase = 0x20, CommandBusy = 0x10;
    const byte SoftwareReset = 0x80, DiskChange = 0x80, RateMask = 3;

    enum Phase : byte { Command, Execution, Result }

    readonly FloppyDrive?[] _drives = new FloppyDrive?[Drives];
    readonly IrqLine _irq;
    readonly IIsaDma _dma;
    readonly int _channel;
    byte _dor, _tdr, _rate = (byte)FloppyRate.Kbps250;
    Phase _phase;
    readonly byte[] _command = new byte[LongestCommand], _result = new byte[LongestResult];
    int _commandLength, _resultAt, _resultLength;
    bool _interrupt;
    byte _resetsToSense;                                           // drives whose end of a reset is not told yet

    /// <param name="channel">Of the DMA.</param>
    public I82078(IrqLine irq, IIsaDma dma, int channel)
    {
        (_irq, _dma, _channel) = (irq, dma, channel);
        _request = new DiskRequest(this);
        _buffers = [_buffer];
    }

    public string Name => Model.Name;
    public string PathName => $"fdc@{FirstAddress:x4}";

    /// <summary>The first port.</summary>
    public ulong FirstAddress { get; init; } = DefaultBase;

    /// <summary>The type of a drive that neither says its own nor has a disk.</summary>
    public FloppyType Fallback { get; init; } = FloppyType.Inch3Extra;

    public FloppyDrive? this[int unit] => _drives[unit];

    public QBus NewBus(string name) => new(name, BusKind.Floppy, this);

    public void Map(Action<ulong, MemoryRegion> map)
    {
        map(FirstAddress + FirstPort, MemoryRegion.Io("fdc", Fifo - FirstPort + 1, this, AccessSizes.Bytes));
        map(FirstAddress + DirCcr, MemoryRegion.Io("fdc-dir", 1, new DirectionPort(this), AccessSizes.ByteOnly));
    }

    public void Reset()
    {
        (_dor, _tdr, _rate) = (0, 0, (byte)FloppyRate.Kbps250);
        (_specify, _headLoad, _configuration, _precompensation, _perpendicular, _isLocked) = (0, 0, 0, 0, 0, false);
        ResetChip();
        (_resetsToSense, _track, _head, _sector, _chunk) = (0, 0, 0, 0, 0);
        foreach (byte[] bytes in (byte[][])[_command, _result, _senseStatus, _buffer]) Array.Clear(bytes);
        Follow();
    }

    public ulong Read(ulong offset, int size) => ((int)offset + FirstPort) switch
    {
        Dor => _dor,
        Tdr => _tdr,
        MsrDsr => Status,
        Fifo => ReadFifo(),
        _ => 0xFF,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        switch ((int)offset + FirstPort)
        {
            case Dor: WriteDor((byte)value); break;
            case Tdr: _tdr = (byte)(value & SelectMask); break;
            case MsrDsr:
                _rate = (byte)(value & RateMask);
                if ((value & SoftwareReset) != 0) ResetChip();     // which clears itself
                break;
            case Fifo: WriteFifo((byte)value); break;
        }
    }

    bool IsReset => (_dor & NotReset) == 0;

    byte Status => (byte)(IsReset ? 0 : _phase switch
    {
        Phase.Command => Rqm | (_commandLength > 0 ? CommandBusy : 0),
        Phase.Result => Rqm | Dio | CommandBusy,
        _ => CommandBusy | (!IsNonDma ? 0 : NonDmaPhase | (_at >= _end ? 0 : Rqm | (IsWrite ? 0 : Dio))),
    });

    void WriteDor(byte value)
    {
        bool wasReset = IsReset;
        _dor = value;
        if (!wasReset && IsReset) ResetChip();
        if (wasReset && !IsReset) EndReset();
        Follow();
    }

    /// <summary>Section 2.1.3: what LOCK protects stays.</summary>
    void ResetChip()
    {
        (_phase, _commandLength, _resultAt, _resultLength, _interrupt) = (Phase.Command, 0, 0, 0, false);
        (_at, _end, _left, _kind) = (0, 0, 0, Transfer.None);
        (_senses, _isAwaited) = (0, false);
        if (!_isLocked) (_configuration, _precompensation) = (0, 0);
        _perpendicular &= PerpendicularKept;
        if (!IsReset) EndReset();
        Follow();
    }

    /// <summary>Section 5.2.4: the ready lines of four drives are polled, and each has changed.</summary>
    void EndReset()
    {
        _resetsToSense = PolledDrives;
        Raise();
    }

    void Raise()
    {
        _interrupt = true;
        Follow();
    }

    void Lower()
    {
        _interrupt = false;
        Follow();
    }

    void Follow() => _irq.Set(_interrupt && (_dor & DmaGate) != 0);

    /// <summary>The digital input register, and the configuration control register behind it.</summary>
    sealed class DirectionPort(I82078 chip) : IRegisterBank
    {
        public ulong Read(ulong offset, int size)
        {
            int drive = chip._dor & SelectMask;
            bool runs = (chip._dor >> MotorShift >> drive & 1) != 0;
            return runs && drive < Drives && chip._drives[drive] is { HasChanged: true } ? DiskChange : 0UL;
        }

        public void Write(ulong offset, int size, ulong value) => chip._rate = (byte)(value & RateMask);
    }
}
