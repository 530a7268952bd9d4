using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>A drive on the ATA interface: command block registers, data transfer by PIO and DMA, one request in flight.
/// ATA/ATAPI-7 volumes 1 and 2 (T13/1532D); names are the standard's.</summary>
public abstract class IdeDrive : IDevice
{
    // Status register
    protected const byte Bsy = 0x80, Drdy = 0x40, Df = 0x20, Dsc = 0x10, Drq = 0x08, Err = 0x01;

    // Error register
    protected const byte Unc = 0x40, Idnf = 0x10, Abrt = 0x04, DiagnosticPassed = 0x01;

    protected const int SectorSize = 512, BufferLength = 64 * 1024;
    protected const byte LbaMode = 0x40, DeviceSelect = 0x10;

    readonly DriveRequest _request;
    readonly List<Memory<byte>> _bufferList;
    byte _features, _hobFeatures, _hobCount, _hobLow, _hobMid, _hobHigh;
    int _blockStart, _at, _end;                                    // of the data block that the host now transfers
    bool _hostWrites;
    bool _interrupt;
    int _inFlight;                                                 // not migrated: nothing is while saving
    bool _resetWaits, _diagnosisWaits;                             // not migrated: as above
    bool _dmaWanted, _dmaToMemory;
    long _dmaLength;

    /// <summary>A command that this drive does not have, and refuses.</summary>
    protected void TellUnimplemented(byte command)
    {
        if (Log is { } log && log.Has(LogItem.Unimp))
            log.Unimplemented(Name, $"{Name}: command 0x{command:x2} is not implemented");
    }

    protected IdeDrive(string name, BlockBackend backend)
    {
        Name = name;
        Backend = backend;
        Buffer = new byte[BufferLength];
        _bufferList = [Buffer];
        _request = new DriveRequest(this);
    }

    public string Name { get; }
    public string BootPathEnd => $"/disk@{Unit:x}";
    public BlockBackend Backend { get; }

    /// <summary>Hears of commands that are not built; null: nobody.</summary>
    public MachineLog? Log { get; init; }

    /// <summary>Set by the bus it is attached to.</summary>
    public IIdePort? Port { get; internal set; }

    /// <summary>0 master, 1 slave.</summary>
    public int Unit { get; internal set; }

    /// <summary>INTRQ, before nIEN and selection.</summary>
    public bool Interrupt => _interrupt;
    public bool WantsDma => _dmaWanted;
    public bool DmaToMemory => _dmaToMemory;
    public long DmaLength => _dmaLength;

    /// <summary>Requests are in flight: they may still read and write memory.</summary>
    public bool HasRequests => _inFlight > 0;

    /// <summary>What the host is to transfer now of the data block, for hosts that do so at once; empty where there is
    /// none.</summary>
    public Span<byte> Block =>
        (Status & Drq) == 0 || _dmaWanted ? default : Buffer.AsSpan(_blockStart + _at, _end - _at);

    /// <summary>Of the data block: the host fills it.</summary>
    public bool HostWrites => _hostWrites;

    protected byte[] Buffer { get; }
    protected byte Status { get; set; }
    protected byte Error { get; set; }
    protected byte SectorCount { get; set; }
    protected byte LbaLow { get; set; }
    protected byte LbaMid { get; set; }
    protected byte LbaHigh { get; set; }
    protected byte DeviceRegister { get; set; }
    protected byte Features => _features;
    protected byte HobFeatures => _hobFeatures;
    protected byte HobSectorCount { get => _hobCount; set => _hobCount = value; }
    protected byte HobLbaLow { get => _hobLow; set => _hobLow = value; }
    protected byte HobLbaMid { get => _hobMid; set => _hobMid = value; }
    protected byte HobLbaHigh { get => _hobHigh; set => _hobHigh = value; }

    /// <summary>The current data block's place in <see cref="Buffer"/>.</summary>
    protected int BlockStart => _blockStart;

    /// <summary>Bytes of the current data block.</summary>
    protected int BlockLength => _end;

    /// <summary>Command register, not busy.</summary>
    protected abstract void Execute(byte command);

    /// <summary>The host has transferred the whole data block.</summary>
    protected abstract void BlockDone();

    /// <summary>A request to the backend has ended.</summary>
    protected abstract void IoDone(int errno);

    /// <summary>Starts a transfer between the host's memory and the drive; ends with <see cref="EndDma"/>, soon or
    /// later.</summary>
    public abstract void RunDma(ScatterList memory);

    /// <summary>The host gave less memory than the transfer has, or memory that is none.</summary>
    public abstract void DmaRefused(bool tooShort);

    protected abstract void SetSignature();
    protected abstract void ResetDrive();
    protected abstract void ExchangeDrive(StateStream state);

    public void Reset()
    {
        (_features, SectorCount, LbaLow, LbaMid, LbaHigh, DeviceRegister) = (0, 0, 0, 0, 0, 0);
        (_hobFeatures, _hobCount, _hobLow, _hobMid, _hobHigh) = (0, 0, 0, 0, 0);
        Array.Clear(Buffer);
        ResetDrive();
        SoftReset();
    }

    /// <summary>SRST, DEVICE RESET and the diagnostic: no transfer runs afterwards, the signature stands in the
    /// registers. The drive is
    /// busy until then, which lasts as long as a request in flight: what it does in memory cannot be called
    /// back.</summary>
    public void SoftReset()
    {
        SetInterrupt(false);
        _diagnosisWaits = false;
        _resetWaits = _inFlight > 0;
        if (_resetWaits)
        {
            Status = Bsy;
            return;
        }
        Forget(written: 0);
        FinishReset();
    }

    void FinishReset()
    {
        Error = DiagnosticPassed;
        DeviceRegister &= DeviceSelect;
        SetSignature();
        Port?.ResetDone(this);
    }

    /// <summary>EXECUTE DEVICE DIAGNOSTIC has ended; the master speaks for both drives.</summary>
    public void SignalDiagnosed()
    {
        _diagnosisWaits = _resetWaits;
        SetInterrupt(!_resetWaits);
    }

    public byte ReadRegister(int index, bool hob) => index switch
    {
        1 => hob ? _hobFeatures : Error,
        2 => hob ? _hobCount : SectorCount,
        3 => hob ? _hobLow : LbaLow,
        4 => hob ? _hobMid : LbaMid,
        5 => hob ? _hobHigh : LbaHigh,
        6 => DeviceRegister,
        _ => Status,
    };

    /// <summary>The Status register, which acknowledges the interrupt.</summary>
    public byte ReadStatus()
    {
        SetInterrupt(false);
        return Status;
    }

    /// <summary>Registers 1 to 6: both drives on a cable take what the host writes. A busy drive ignores it.</summary>
    public void WriteRegister(int index, byte value)
    {
        if ((Status & (Bsy | Drq)) != 0 && index != 6) return;
        switch (index)
        {
            case 1: (_hobFeatures, _features) = (_features, value); break;
            case 2: (_hobCount, SectorCount) = (SectorCount, value); break;
            case 3: (_hobLow, LbaLow) = (LbaLow, value); break;
            case 4: (_hobMid, LbaMid) = (LbaMid, value); break;
            case 5: (_hobHigh, LbaHigh) = (LbaHigh, value); break;
            case 6: DeviceRegister = value; break;
        }
    }

    public virtual void WriteCommand(byte command)
    {
        if ((Status & (Bsy | Drq)) != 0) return;
        SetInterrupt(false);
        Error = 0;
        Execute(command);
    }

    public ulong ReadData(int size)
    {
        if ((Status & Drq) == 0 || _hostWrites || _dmaWanted) return 0;
        ulong value = 0;
        for (int i = 0; i < size && _at < _end; i++) value |= (ulong)Buffer[_blockStart + _at++] << (i * 8);
        if (_at >= _end) EndBlock();
        return value;
    }

    public void WriteData(int size, ulong value)
    {
        if ((Status & Drq) == 0 || !_hostWrites || _dmaWanted) return;
        for (int i = 0; i < size && _at < _end; i++) Buffer[_blockStart + _at++] = (byte)(value >> (i * 8));
        if (_at >= _end) EndBlock();
    }

    /// <summary>The host has transferred the whole of <see cref="Block"/>.</summary>
    public void EndBlock()
    {
        _at = 0;
        Status = Drdy | Dsc;
        BlockDone();
    }

    public void Exchange(StateStream state)
    {
        (byte status, byte error, byte count, byte low, byte mid, byte high, byte device) =
            (Status, Error, SectorCount, LbaLow, LbaMid, LbaHigh, DeviceRegister);
        state.Field("status", ref status);
        state.Field("error", ref error);
        state.Field("features", ref _features);
        state.Field("sector-count", ref count);
        state.Field("lba-low", ref low);
        state.Field("lba-mid", ref mid);
        state.Field("lba-high", ref high);
        state.Field("device", ref device);
        state.Field("hob-features", ref _hobFeatures);
        state.Field("hob-sector-count", ref _hobCount);
        state.Field("hob-lba-low", ref _hobLow);
        state.Field("hob-lba-mid", ref _hobMid);
        state.Field("hob-lba-high", ref _hobHigh);
        (Status, Error, SectorCount, LbaLow, LbaMid, LbaHigh, DeviceRegister) =
            (status, error, count, low, mid, high, device);
        state.Field("block-start", ref _blockStart);
        state.Field("block-at", ref _at);
        state.Field("block-end", ref _end);
        state.Field("host-writes", ref _hostWrites);
        state.Field("interrupt", ref _interrupt);
        state.Field("dma-wanted", ref _dmaWanted);
        state.Field("dma-to-memory", ref _dmaToMemory);
        state.Field("dma-length", ref _dmaLength);
        state.Block("buffer", Buffer);
        if (_at < 0 || _end < _at || _blockStart < 0 || _blockStart > BufferLength || _end > BufferLength - _blockStart
            || _dmaLength < 0)
            throw new InvalidStateException($"{Name}: impossible data block {_blockStart} + {_at}..{_end}");
        ExchangeDrive(state);
    }

    /// <summary>Asserts DRQ for a block of <see cref="Buffer"/>.</summary>
    protected void BeginBlock(int start, int length, bool hostWrites)
    {
        (_blockStart, _at, _end, _hostWrites) = (start, 0, length, hostWrites);
        Status = Drdy | Dsc | Drq;
    }

    /// <summary>Asserts DMARQ; RunDma follows when the host has set up its side.</summary>
    protected void BeginDma(long length, bool toMemory)
    {
        (_dmaWanted, _dmaLength, _dmaToMemory) = (true, length, toMemory);
        Status = Drdy | Dsc | Drq;
        Port?.DmaReady(this);
    }

    /// <summary>The transfer is over; the drive's ending status and interrupt follow.</summary>
    /// <param name="written">Bytes of memory that may have changed, also where the transfer failed.</param>
    protected void EndDma(long written)
    {
        _dmaWanted = false;
        Port?.DmaFinished(this, written);
    }

    protected void SetInterrupt(bool level)
    {
        if (_interrupt == level) return;
        _interrupt = level;
        Port?.InterruptChanged(this);
    }

    protected void Finish(byte status)
    {
        Status = status;
        SetInterrupt(true);
    }

    protected void Fail(byte error)
    {
        Error = error;
        Finish(Drdy | Dsc | Err);
    }

    /// <summary>Starts a request; the drive is busy until IoDone.</summary>
    protected void Submit(BlockOperation operation, long offset, ScatterList data, bool fua = false)
    {
        Status = Drdy | Dsc | Bsy;
        BeginRequest();
        _request.Operation = operation;
        _request.Offset = offset;
        _request.Length = data.Length;
        _request.Buffers = data;
        _request.Fua = fua;
        Backend.Submit(_request);
    }

    protected ScatterList BufferPart(int length) => new(_bufferList, 0, 0, length);

    /// <summary>Forgets the command; nothing is in flight.</summary>
    /// <param name="written">Bytes of memory that its transfer may have changed.</param>
    void Forget(long written)
    {
        bool wasDma = _dmaWanted;
        (_dmaWanted, _dmaToMemory, _dmaLength, _blockStart, _at, _end, _hostWrites) = (false, false, 0, 0, 0, 0, false);
        if (wasDma) Port?.DmaFinished(this, written);
    }

    void RequestDone(int errno)
    {
        _request.Buffers = default;
        if (EndRequest()) IoDone(errno);
    }

    /// <summary>A request is submitted; <see cref="EndRequest"/> follows.</summary>
    protected void BeginRequest() => _inFlight++;

    /// <summary>One has ended. False: a reset waited for it, and nobody is to hear of it.</summary>
    protected bool EndRequest()
    {
        _inFlight--;
        if (!_resetWaits) return true;
        if (_inFlight > 0) return false;
        _resetWaits = false;
        Forget(_dmaToMemory ? _dmaLength : 0);
        FinishReset();
        if (_diagnosisWaits) SetInterrupt(true);
        _diagnosisWaits = false;
        return false;
    }

    sealed class DriveRequest(IdeDrive drive) : BlockRequest
    {
        public override void Complete(int errno) => drive.RequestDone(errno);
    }
}
