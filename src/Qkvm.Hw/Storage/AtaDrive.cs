using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>What shapes a hard disk beside its backend.</summary>
public sealed record AtaOptions(string Serial, string Model = "QEMU HARDDISK", string Version = "2.5+",
    bool WriteCache = true,
    ulong WorldWideName = 0, ushort RotationRate = 0, int PhysicalBlock = 512);

/// <summary>Hard disk. ATA/ATAPI-7 volume 1 (T13/1532D), general feature set with 48-bit addresses.</summary>
/// <remarks>Sectors pass through a buffer of 128 in PIO, and straight between guest memory and backend in DMA.
/// Deviations: a PIO write reports its error at the end of the buffer; SMART knows health but no attributes or logs;
/// no security, host protected area or TRIM; queued commands (NCQ) on a SATA port alone.</remarks>
public sealed partial class AtaDrive : IdeDrive
{
    enum Phase : byte { Idle, PioRead, PioWrite, Dma, Flush, DataIn }

    const int BufferSectors = BufferLength / SectorSize, MaxMultiple = 16;

    readonly AtaOptions _options;
    Phase _phase;
    long _lba;
    int _left;                                                     // sectors of the command yet to transfer
    int _chunk, _chunkDone;                                        // sectors in the buffer, and of these past the host
    int _blockSectors;                                             // of one DRQ block
    bool _isExtended, _isWrite, _isForced;
    byte _multiple, _heads, _sectorsPerTrack;
    bool _lookAhead, _smartEnabled, _standby;
    byte _transferMode;

    public AtaDrive(string name, BlockBackend backend, AtaOptions options) : base(name, backend)
    {
        _options = options;
        Reset();
    }

    long TotalSectors => Backend.Length / SectorSize;
    ushort Cylinders => (ushort)Math.Clamp(TotalSectors / (DefaultHeads * DefaultSectors), 2, 16383);
    const byte DefaultHeads = 16, DefaultSectors = 63;

    protected override void SetSignature()
    {
        (SectorCount, LbaLow, LbaMid, LbaHigh) = (1, 1, 0, 0);
        Status = Drdy | Dsc;
        (_phase, _left, _chunk, _chunkDone, _blockSectors, _isForced, _isExtended, _isWrite, _lba) =
            (Phase.Idle, 0, 0, 0, 0, false, false, false, 0);
        ForgetQueue();
    }

    protected override void ResetDrive()
    {
        (_multiple, _heads, _sectorsPerTrack) = (MaxMultiple, DefaultHeads, DefaultSectors);
        (_lookAhead, _smartEnabled, _standby) = (true, true, false);
        Backend.WriteCache = _options.WriteCache;
        _transferMode = DefaultTransferMode;
    }

    protected override void ExchangeDrive(StateStream state)
    {
        byte phase = (byte)_phase;
        state.Field("phase", ref phase);
        _phase = (Phase)phase;
        state.Field("lba", ref _lba);
        state.Field("left", ref _left);
        state.Field("chunk", ref _chunk);
        state.Field("chunk-done", ref _chunkDone);
        state.Field("block-sectors", ref _blockSectors);
        state.Field("extended", ref _isExtended);
        state.Field("write", ref _isWrite);
        state.Field("forced", ref _isForced);
        state.Field("multiple", ref _multiple);
        state.Field("heads", ref _heads);
        state.Field("sectors-per-track", ref _sectorsPerTrack);
        bool writeCache = Backend.WriteCache;
        state.Field("write-cache", ref writeCache);
        Backend.WriteCache = writeCache;
        state.Field("look-ahead", ref _lookAhead);
        state.Field("smart", ref _smartEnabled);
        state.Field("standby", ref _standby);
        state.Field("transfer-mode", ref _transferMode);
        ExchangeQueue(state);
        if (_phase > Phase.DataIn || _left is < 0 or > 65536 || _chunk is < 0 or > BufferSectors || _chunkDone < 0
            || _chunkDone > _chunk
            || _multiple > MaxMultiple || _lba < 0 || _lba > TotalSectors || _blockSectors is < 0 or > MaxMultiple
            || _heads is 0 or > 16
            || _sectorsPerTrack == 0)
            throw new InvalidStateException($"{Name}: impossible transfer of {_left} sectors at {_lba}");
    }

    protected override void BlockDone()
    {
        switch (_phase)
        {
            case Phase.PioRead:
                PassBlock();
                if (_chunkDone < _chunk) OfferReadBlock();
                else if (_left > 0) ReadChunk();
                else EndTransfer(interrupt: false);
                break;
            case Phase.PioWrite:
                PassBlock();
                if (_chunkDone < _chunk) AskWriteBlock(interrupt: true);
                else Submit(BlockOperation.Write, (_lba - _chunk) * SectorSize, BufferPart(_chunk * SectorSize),
                    _isForced);
                break;
            default:
                _phase = Phase.Idle;
                break;
        }
    }

    protected override void IoDone(int errno)
    {
        if (errno != 0)
        {
            if (_phase is Phase.PioRead or Phase.PioWrite or Phase.Dma)
                StoreAddress(_phase == Phase.Dma ? _lba : _lba - (_phase == Phase.PioWrite ? _chunk : 0));
            bool wasDma = _phase == Phase.Dma;
            byte error = _isWrite || _phase == Phase.Flush ? Abrt : Unc;
            _phase = Phase.Idle;
            if (wasDma) EndDma(_isWrite ? 0 : DmaLength);
            Fail(error);
            return;
        }
        switch (_phase)
        {
            case Phase.PioRead: OfferReadBlock(); break;
            case Phase.PioWrite when _left > 0: BeginWriteChunk(interrupt: true); break;
            case Phase.Dma:
                _lba += _left;
                long written = _isWrite ? 0 : (long)_left * SectorSize;
                _left = 0;
                EndDma(written);
                EndTransfer(interrupt: true);
                break;
            case Phase.Flush:
                _phase = Phase.Idle;
                Finish(Drdy | Dsc);
                break;
            default: EndTransfer(interrupt: true); break;
        }
    }

    public override void RunDma(ScatterList memory) =>
        Submit(_isWrite ? BlockOperation.Write : BlockOperation.Read, _lba * SectorSize, memory.Slice(0, DmaLength),
            _isForced);

    public override void DmaRefused(bool tooShort)
    {
        _phase = Phase.Idle;
        EndDma(0);
        if (tooShort) Status = Drdy | Dsc;                         // the host sees Active fall without an interrupt
        else Fail(Abrt);
    }

    /// <summary>Takes address and count from the registers; false after refusing the command.</summary>
    bool Begin(bool isExtended, bool isWrite, Phase phase, bool forceUnitAccess = false)
    {
        _isExtended = isExtended;
        (_isWrite, _isForced) = (isWrite, forceUnitAccess);
        _left = isExtended ? SectorCount | HobSectorCount << 8 : SectorCount;
        if (_left == 0) _left = isExtended ? 65536 : 256;
        bool isAddress = TryReadAddress(out _lba);
        if (!isAddress || _lba + _left > TotalSectors)
        {
            // "the address of the sector where the first unrecoverable error occurred"
            if (isAddress) StoreAddress(Math.Max(_lba, TotalSectors));
            (_lba, _left) = (0, 0);
            Fail(Idnf);
            return false;
        }
        _phase = phase;
        return true;
    }

    bool TryReadAddress(out long lba)
    {
        long low = LbaLow | LbaMid << 8 | LbaHigh << 16;
        if (_isExtended) lba = low | (long)HobLbaLow << 24 | (long)HobLbaMid << 32 | (long)HobLbaHigh << 40;
        else if ((DeviceRegister & LbaMode) != 0) lba = low | (long)(DeviceRegister & 15) << 24;
        else
        {
            int cylinder = LbaMid | LbaHigh << 8, head = DeviceRegister & 15, sector = LbaLow;
            lba = ((long)cylinder * _heads + head) * _sectorsPerTrack + sector - 1;
            return sector >= 1 && sector <= _sectorsPerTrack && head < _heads;
        }
        return true;
    }

    void StoreAddress(long lba)
    {
        if (_isExtended) (HobLbaLow, HobLbaMid, HobLbaHigh) = ((byte)(lba >> 24), (byte)(lba >> 32), (byte)(lba >> 40));
        else if ((DeviceRegister & LbaMode) != 0)
            DeviceRegister = (byte)(DeviceRegister & 0xF0 | (int)(lba >> 24) & 15);
        else
        {
            long track = lba / _sectorsPerTrack, cylinder = track / _heads;
            LbaLow = (byte)(lba % _sectorsPerTrack + 1);
            (LbaMid, LbaHigh) = ((byte)cylinder, (byte)(cylinder >> 8));
            DeviceRegister = (byte)(DeviceRegister & 0xF0 | (int)(track % _heads));
            return;
        }
        (LbaLow, LbaMid, LbaHigh) = ((byte)lba, (byte)(lba >> 8), (byte)(lba >> 16));
    }

    void ReadSectors(bool isExtended, int blockSectors)
    {
        if (!Begin(isExtended, isWrite: false, Phase.PioRead)) return;
        _blockSectors = blockSectors;
        ReadChunk();
    }

    void WriteSectors(bool isExtended, int blockSectors, bool forceUnitAccess = false)
    {
        if (!Begin(isExtended, isWrite: true, Phase.PioWrite, forceUnitAccess)) return;
        _blockSectors = blockSectors;
        BeginWriteChunk(interrupt: false);
    }

    void TransferDma(bool isExtended, bool isWrite, bool forceUnitAccess = false)
    {
        if (!Begin(isExtended, isWrite, Phase.Dma, forceUnitAccess)) return;
        BeginDma((long)_left * SectorSize, toMemory: !isWrite);
    }

    void ReadChunk()
    {
        (_chunk, _chunkDone) = (Math.Min(_left, BufferSectors), 0);
        Submit(BlockOperation.Read, _lba * SectorSize, BufferPart(_chunk * SectorSize));
    }

    void OfferReadBlock()
    {
        BeginBlock(_chunkDone * SectorSize, Math.Min(_blockSectors, _chunk - _chunkDone) * SectorSize,
            hostWrites: false);
        SetInterrupt(true);
    }

    void BeginWriteChunk(bool interrupt)
    {
        (_chunk, _chunkDone) = (Math.Min(_left, BufferSectors), 0);
        AskWriteBlock(interrupt);
    }

    void AskWriteBlock(bool interrupt)
    {
        BeginBlock(_chunkDone * SectorSize, Math.Min(_blockSectors, _chunk - _chunkDone) * SectorSize,
            hostWrites: true);
        if (interrupt) SetInterrupt(true);
    }

    /// <summary>The host is done with a DRQ block.</summary>
    void PassBlock()
    {
        int sectors = BlockLength / SectorSize;
        _chunkDone += sectors;
        _left -= sectors;
        _lba += sectors;
    }

    /// <summary>Leaves the last sector's address in the registers.</summary>
    void EndTransfer(bool interrupt)
    {
        _phase = Phase.Idle;
        StoreAddress(Math.Max(0, _lba - 1));
        SectorCount = 0;
        Status = Drdy | Dsc;
        if (interrupt) SetInterrupt(true);
    }
}
