using Qkvm.Core.Block;

namespace Qkvm.Hw.Storage;

/// <summary>Commands that move data: section 6.1 of the data sheet. They read and write the disk as many sectors of a
/// track at once as they name.</summary>
public sealed partial class I82078
{
    const byte ReadTrack = 0x02, WriteData = 0x05, ReadData = 0x06, WriteDeleted = 0x09, ReadDeleted = 0x0C,
        FormatTrack = 0x0D, Verify = 0x16;
    const int MostSectors = 48, IdLength = 4;
    const byte Size512 = 2;                                        // N: 128 bytes << N

    enum Transfer : byte { None, Read, Write, Verify, Format }

    readonly DiskRequest _request;
    readonly byte[] _buffer = new byte[MostSectors * FloppyFormat.SectorSize];
    readonly List<Memory<byte>> _buffers;
    Transfer _kind;
    byte _track, _head, _sector;                                   // of the next one
    int _chunk;                                                    // sectors in the buffer
    int _at, _end;                                                 // of the bytes that the host moves by itself
    int _left;                                                     // sectors of this track side
    bool _isInFlight, _isAwaited;                                  // not migrated: nothing is while saving

    bool IsWrite => _kind is Transfer.Write or Transfer.Format;
    byte LastSector => _command[6];                                // EOT

    void BeginTransfer(byte opcode)
    {
        _kind = opcode switch
        {
            WriteData or WriteDeleted => Transfer.Write,
            Verify => Transfer.Verify,
            FormatTrack => Transfer.Format,
            _ => Transfer.Read,
        };
        _phase = Phase.Execution;
        bool formats = _kind == Transfer.Format;
        (_track, _head, _sector) = formats ? (Selected?.Track ?? 0, (byte)(_command[1] >> 2 & 1), (byte)1)
            : (_command[2], (byte)(_command[3] & 1), opcode == ReadTrack ? (byte)1 : _command[4]);
        byte size = formats ? _command[2] : _command[5];
        if (!IsReadable(out byte status1)) { End(Abnormal, status1, 0); return; }
        Selected!.Seek(_track);
        if (IsWrite && Selected.Backend.IsReadOnly) End(Abnormal, NotWritable, 0);
        else if (size != Size512) End(Abnormal, NoData, 0);
        else if (formats) BeginFormat();
        else NextChunk();
    }

    /// <summary>There is a disk, and its data comes at the rate that is set.</summary>
    bool IsReadable(out byte status1)
    {
        status1 = MissingAddressMark;
        return Selected is { HasDisk: true } drive && (byte)drive.Format.Rate == _rate;
    }

    /// <summary>The sectors up to the last that is named, on this side of the track.</summary>
    void NextChunk()
    {
        int wanted = Math.Clamp(LastSector - _sector + 1, 1, MostSectors);
        long at = Selected!.Place(_track, _head, _sector);
        if (at < 0) { End(Abnormal, NoData, 0); return; }
        _left = LastSector - _sector + 1;
        _chunk = 1;
        while (_chunk < wanted && Selected.Place(_track, _head, _sector + _chunk) >= 0) _chunk++;
        if (_kind == Transfer.Write) CollectData();
        else Submit(BlockOperation.Read, at);
    }

    int ChunkLength => _chunk * FloppyFormat.SectorSize;

    /// <summary>Of a write: what the DMA has until its count ends, the rest of a sector in zeros.</summary>
    void CollectData()
    {
        Span<byte> data = _buffer.AsSpan(0, ChunkLength);
        if (IsNonDma) { OfferBytes(); return; }
        int moved = _dma.Read(_channel, data);
        if (moved == 0) { End(Abnormal, Overrun, 0); return; }
        data[moved..].Clear();
        _chunk = (moved + FloppyFormat.SectorSize - 1) / FloppyFormat.SectorSize;
        Submit(BlockOperation.Write, Selected!.Place(_track, _head, _sector));
    }

    /// <summary>Without DMA each byte goes through the FIFO.</summary>
    void OfferBytes()
    {
        (_at, _end) = (0, _kind == Transfer.Format ? _chunk * IdLength : ChunkLength);
        Raise();
    }

    byte TakeByte()
    {
        byte value = _buffer[_at++];
        if (_at < _end) return value;
        Lower();
        Advance(_chunk, isOver: false);
        return value;
    }

    void PassByte(byte value)
    {
        _buffer[_at++] = value;
        if (_at < _end) return;
        Lower();
        if (_kind == Transfer.Format) Fill();
        else Submit(BlockOperation.Write, Selected!.Place(_track, _head, _sector));
    }

    /// <summary>FORMAT TRACK: an ID of four bytes for each sector, which the filler byte then fills.</summary>
    void BeginFormat()
    {
        _chunk = Math.Min(_command[3], (byte)Selected!.Format.Sectors);
        if (_chunk == 0) { End(Abnormal, NoData, 0); return; }
        if (IsNonDma) { OfferBytes(); return; }
        if (_dma.Read(_channel, _buffer.AsSpan(0, _chunk * IdLength)) < _chunk * IdLength) End(Abnormal, Overrun, 0);
        else Fill();
    }

    void Fill()
    {
        _buffer.AsSpan(0, ChunkLength).Fill(_command[5]);
        long at = Selected!.Place(_track, _head, 1);
        if (at < 0 || Selected.Place(_track, _head, _chunk) < 0) End(Abnormal, NoData, 0);
        else Submit(BlockOperation.Write, at);
    }

    void Submit(BlockOperation operation, long at)
    {
        if (_isInFlight) { End(Abnormal, Overrun, 0); return; }    // a request from before a reset still runs
        (_request.Operation, _request.Offset) = (operation, at);
        _request.Buffers = new ScatterList(_buffers).Slice(0, ChunkLength);
        _isInFlight = _isAwaited = true;
        Selected!.Backend.Submit(_request);
    }

    void RequestDone(int errno)
    {
        _isInFlight = false;
        if (!_isAwaited) return;                                   // a reset came
        _isAwaited = false;
        if (errno != 0) { End(Abnormal, IsWrite ? NoData : DataError, IsWrite ? (byte)0 : DataError); return; }
        switch (_kind)
        {
            case Transfer.Format: End(0, 0, 0); break;
            case Transfer.Verify: Advance(_chunk, isOver: false); break;
            case Transfer.Write: Advance(_chunk, !IsNonDma && _dma.HasEnded(_channel)); break;
            default: DeliverData(); break;
        }
    }

    void DeliverData()
    {
        if (IsNonDma) { OfferBytes(); return; }
        int moved = _dma.Write(_channel, _buffer.AsSpan(0, ChunkLength));
        if (moved == 0) End(Abnormal, Overrun, 0);
        else Advance((moved + FloppyFormat.SectorSize - 1) / FloppyFormat.SectorSize, _dma.HasEnded(_channel));
    }

    /// <summary>Sectors have moved: ends with the DMA's count or with the last sector, goes over to the other side
    /// where the command lets it. Table 6-3: the address that results.</summary>
    /// <param name="isOver">The DMA's count has ended.</param>
    void Advance(int sectors, bool isOver)
    {
        _sector += (byte)sectors;
        _left -= sectors;
        bool endsTrack = _left <= 0;
        if (endsTrack)
        {
            bool goesOn = (_command[0] & MultiTrack) != 0 && _head == 0;
            if (goesOn) _head = 1;
            else
            {
                _track++;
                if ((_command[0] & MultiTrack) != 0) _head = 0;
            }
            _sector = 1;
            endsTrack = !goesOn;
        }
        if (isOver || _kind == Transfer.Verify && endsTrack) End(0, 0, 0);
        else if (endsTrack) End(Abnormal, EndOfCylinder, 0);
        else NextChunk();
    }

    void End(byte status0, byte status1, byte status2)
    {
        (_kind, _at, _end) = (Transfer.None, 0, 0);
        Answer((byte)(status0 | SelectedBits), status1, status2, _track, _head, _sector, Size512);
        Raise();
    }

    sealed class DiskRequest(I82078 chip) : BlockRequest
    {
        public override void Complete(int errno) => chip.RequestDone(errno);
    }
}
