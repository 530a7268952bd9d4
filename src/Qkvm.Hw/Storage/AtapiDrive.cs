using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Storage;

/// <summary>CD/DVD-ROM drive with the PACKET interface, behind which is a <see cref="ScsiCd"/>. ATA/ATAPI-7 volume 2
/// (T13/1532D), section 6.24.</summary>
public sealed partial class AtapiDrive : IdeDrive, IDevice
{
    enum Phase : byte { Idle, Packet, Reply, ReadPio, ReadDma, ReplyDma, Identify, RawDma }

    const int PacketLength = 12, DiscSector = ScsiCd.DiscSector, BufferDiscSectors = BufferLength / DiscSector;

    // Interrupt reason, in the Sector Count register
    const byte CommandData = 1, ToHost = 2;

    readonly string _serial, _model, _version;
    Phase _phase;
    int _length, _sent;                                            // of the bytes in the buffer
    long _sector;
    int _left;                                                     // disc sectors that are not in the buffer yet
    CdParts _parts;                                                // of a raw sector; none: the user data alone
    ScatterList _rawTarget;                                        // not migrated: machines are saved between transfers
    long _rawDone;                                                 // not migrated: as above
    bool _useDma;
    int _byteCountLimit;
    byte _transferMode;

    public AtapiDrive(string name, BlockBackend backend, string serial, string model = "QEMU DVD-ROM",
        string version = "2.5+")
        : base(name, backend)
    {
        (_serial, _model, _version) = (serial, model, version);
        Disc = new ScsiCd(backend, new ScsiOptions
            { Product = model, Version = version, IsRemovable = true, BlockSize = DiscSector, ScsiVersion = 0 },
            isAtapi: true);
        Reset();
    }

    /// <summary>What takes the packets; the tray is its.</summary>
    public ScsiCd Disc { get; }

    T? IDevice.Facet<T>() where T : class => Disc as T ?? this as T;

    protected override void SetSignature()
    {
        (SectorCount, LbaLow, LbaMid, LbaHigh) = (1, 1, 0x14, 0xEB);
        Status = 0;                                                // no DRDY until a command: that tells it from a disk
        (_phase, _length, _sent, _sector, _left, _useDma, _byteCountLimit) = (Phase.Idle, 0, 0, 0, 0, false, 0);
        (_parts, _rawTarget) = (CdParts.None, default);
    }

    protected override void ResetDrive()
    {
        _transferMode = 0x45;
        Disc.Reset();
    }

    protected override void ExchangeDrive(StateStream state)
    {
        byte phase = (byte)_phase;
        state.Field("phase", ref phase);
        _phase = (Phase)phase;
        state.Field("length", ref _length);
        state.Field("sent", ref _sent);
        state.Field("sector", ref _sector);
        state.Field("left", ref _left);
        byte parts = (byte)_parts;
        state.Field("parts", ref parts);
        _parts = (CdParts)parts;
        state.Field("use-dma", ref _useDma);
        state.Field("byte-count-limit", ref _byteCountLimit);
        state.Field("transfer-mode", ref _transferMode);
        Disc.Exchange(state.Group("scsi"));
        if (_phase > Phase.RawDma || CdSector.LengthOf(_parts) < 0 || _length is < 0 or > BufferLength || _sent < 0
            || _sent > _length || _sector < 0 || _left < 0
            || _byteCountLimit is < 0 or > 0xFFFE)
            throw new InvalidStateException($"{Name}: impossible transfer of {_left} sectors at {_sector}");
    }

    /// <summary>DEVICE RESET works in any state.</summary>
    public override void WriteCommand(byte command)
    {
        const byte DeviceReset = 0x08;
        if (command == DeviceReset) SoftReset();
        else base.WriteCommand(command);
    }

    protected override void Execute(byte command)
    {
        switch (command)
        {
            case 0xA0:                                             // PACKET
                _useDma = (Features & 1) != 0;
                int limit = LbaMid | LbaHigh << 8;
                _byteCountLimit = limit is 0 or 0xFFFF ? 0xFFFE : limit;
                _phase = Phase.Packet;
                SectorCount = CommandData;
                BeginBlock(0, PacketLength, hostWrites: true);
                break;
            case 0xA1:                                             // IDENTIFY PACKET DEVICE
                _phase = Phase.Identify;
                Buffer.AsSpan(0, SectorSize).Clear();
                WriteIdentify(Buffer.AsSpan(0, SectorSize));
                BeginBlock(0, SectorSize, hostWrites: false);
                SetInterrupt(true);
                break;
            // IDENTIFY DEVICE, READ SECTOR(S): "I am a packet device"
            case 0xEC or 0x20:
                SetSignature();
                Fail(Abrt);
                break;
            case 0xEF when Features == 0x03 && IsMode(SectorCount):   // SET FEATURES: transfer mode
                _transferMode = SectorCount;
                Finish(Drdy | Dsc);
                break;
            case 0xEF when Features is 0x66 or 0xCC:
            case 0xE0 or 0xE1 or 0xE2 or 0xE3 or 0xE6:             // power management
                Finish(Drdy | Dsc);
                break;
            case 0xE5:
                SectorCount = 0xFF;
                Finish(Drdy | Dsc);
                break;
            default: TellUnimplemented(command); Fail(Abrt); break;
        }
    }

    protected override void BlockDone()
    {
        switch (_phase)
        {
            case Phase.Packet:
                ExecutePacket(Buffer.AsSpan(0, PacketLength).ToArray());
                break;
            case Phase.Reply or Phase.ReadPio:
                _sent += BlockLength;
                if (_sent < _length) OfferBlock();
                else if (_left > 0) ReadChunk();
                else Succeed();
                break;
            default:
                _phase = Phase.Idle;
                break;
        }
    }

    protected override void IoDone(int errno)
    {
        bool wasDma = _phase == Phase.ReadDma, isRawDma = _phase == Phase.RawDma;
        if (errno != 0)
        {
            if (wasDma || isRawDma) EndDma(DmaLength);
            Check(ScsiSense.ReadError);
        }
        else if (wasDma)
        {
            EndDma(DmaLength);
            Succeed();
        }
        else if (isRawDma) PassRawDma();
        else
        {
            if (_parts != CdParts.None) ExpandBuffer();
            OfferBlock();
        }
    }

    public override void RunDma(ScatterList memory)
    {
        if (_phase == Phase.ReadDma)
        {
            Submit(BlockOperation.Read, _sector * DiscSector, memory.Slice(0, DmaLength));
            return;
        }
        if (_phase == Phase.RawDma)
        {
            (_rawTarget, _rawDone) = (memory, 0);
            ReadChunk();
            return;
        }
        int length = (int)Math.Min(_length, memory.Length);
        memory.Slice(0, length).CopyFrom(Buffer.AsSpan(0, length));
        EndDma(length);
        Succeed();
    }

    public override void DmaRefused(bool tooShort)
    {
        EndDma(0);
        Check(ScsiSense.Aborted);
    }

    /// <summary>Sends the first bytes of the buffer, as many as the initiator allows.</summary>
    void Reply(int length, int allocated)
    {
        _length = Math.Min(length, allocated);
        (_sent, _left) = (0, 0);
        if (_length == 0) Succeed();
        else if (_useDma)
        {
            _phase = Phase.ReplyDma;
            SectorCount = ToHost;
            BeginDma(_length, toMemory: true);
        }
        else
        {
            _phase = Phase.Reply;
            OfferBlock();
        }
    }

    /// <param name="parts">None for the user data alone.</param>
    void Read(uint first, int count, CdParts parts = CdParts.None)
    {
        (_sector, _parts, _left) = (first, parts, count);
        if (_useDma)
        {
            _phase = parts == CdParts.None ? Phase.ReadDma : Phase.RawDma;
            SectorCount = ToHost;
            BeginDma((long)count * SectorLength, toMemory: true);
            return;
        }
        _phase = Phase.ReadPio;
        ReadChunk();
    }

    void ReadChunk()
    {
        int sectors = Math.Min(_left, Math.Min(BufferDiscSectors, BufferLength / SectorLength));
        (_length, _sent) = (sectors * DiscSector, 0);
        long at = _sector * DiscSector;
        _sector += sectors;
        _left -= sectors;
        Submit(BlockOperation.Read, at, BufferPart(_length));
    }

    /// <summary>The byte count limit of the command bounds a block; LBA mid and high then hold the block's
    /// length.</summary>
    void OfferBlock()
    {
        int length = Math.Min(_length - _sent, _byteCountLimit);
        if (length < _length - _sent && (length & 1) != 0 && length > 1) length--;   // only the last block may be odd
        (LbaMid, LbaHigh) = ((byte)length, (byte)(length >> 8));
        SectorCount = ToHost;
        BeginBlock(_sent, length, hostWrites: false);
        SetInterrupt(true);
    }

    void Succeed()
    {
        _phase = Phase.Idle;
        SectorCount = CommandData | ToHost;
        Finish(Drdy | Dsc);
    }

    void Check(ScsiSense sense)
    {
        Disc.Refused(sense);
        Check();
    }

    /// <summary>CHECK CONDITION: the unit's sense key stands in the Error register too.</summary>
    void Check()
    {
        const byte illegalRequest = 5, abortedCommand = 11;
        _phase = Phase.Idle;
        byte key = Disc.Sense.Key;
        SectorCount = CommandData | ToHost;
        Fail((byte)(key << 4 | (key is illegalRequest or abortedCommand ? Abrt : 0)));
    }

    static bool IsMode(byte mode) =>
        (mode >> 3) switch { 0 => (mode & 7) <= 1, 1 => (mode & 7) <= 4, 4 => (mode & 7) <= 2, 8 => (mode & 7) <= 5,
            _ => false };

    void WriteIdentify(Span<byte> data)
    {
        // ATAPI, CD-ROM, removable, accelerated DRQ, 12-byte packets
        AtaIdentify.Set(data, 0, 0x85C0);
        AtaIdentify.SetText(data, 10, 10, _serial);
        AtaIdentify.SetText(data, 23, 4, _version);
        AtaIdentify.SetText(data, 27, 20, _model);
        AtaIdentify.Set(data, 48, 1);
        AtaIdentify.Set(data, 49, 0x0B00);                         // DMA, LBA, IORDY
        AtaIdentify.SetTransferModes(data, _transferMode);
        AtaIdentify.Set(data, 80, 0x1E);                           // ATA-1 to ATA-4
    }
}
