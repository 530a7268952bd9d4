using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>Moves DMA transfers of one channel. Programming Interface for Bus Master IDE Controller, revision
/// 1.0.</summary>
public sealed class IdeBusMaster : IRegisterBank
{
    public const int RegisterBytes = 8;

    // Section 2.0: offsets
    const ulong Command = 0, Status = 2, Table = 4;

    const byte Start = 1, ToMemory = 8;                            // command
    const byte Active = 1, Error = 2, Interrupt = 4, DriveFlags = 0x60;   // status

    // Section 1.1: the physical region descriptor table, at most 64 KiB
    const int DescriptorLength = 8, MaxDescriptors = 64 * 1024 / DescriptorLength;
    const uint EndOfTable = 0x8000_0000, LargestRegion = 64 * 1024;

    readonly IdeChannel _channel;
    readonly Func<Dma> _dma;
    readonly List<Memory<byte>> _segments = [];
    readonly List<(ulong Address, uint Length)> _regions = [];
    byte _command, _status;
    uint _table;
    bool _hasMore;                                                 // the table is longer than the transfer
    IdeDrive? _running;                                            // not migrated: nothing is in flight while saving

    /// <param name="dma">The function's way to memory, once it is plugged.</param>
    public IdeBusMaster(IdeChannel channel, Func<Dma> dma)
    {
        _channel = channel;
        _dma = dma;
        channel.BusMaster = this;
    }

    public void Reset() => (_command, _status, _table, _hasMore) = (0, 0, 0, false);

    public void Exchange(StateStream state)
    {
        state.Field("command", ref _command);
        state.Field("status", ref _status);
        state.Field("table", ref _table);
        state.Field("has-more", ref _hasMore);
    }

    public ulong Read(ulong offset, int size) => offset switch
    {
        Command => _command,
        Status => _status,
        >= Table => _table >> ((int)(offset - Table) * 8),
        _ => 0xFFUL,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        switch (offset)
        {
            case Command: WriteCommand((byte)value); break;
            case Status:                                           // Error and Interrupt clear by writing ones
                byte kept = (byte)(_status & (Active | Error | Interrupt) & ~((byte)value & (Error | Interrupt)));
                _status = (byte)((byte)value & DriveFlags | kept);
                break;
            case >= Table:
                int shift = (int)(offset - Table) * 8;
                uint mask = (size == 4 ? uint.MaxValue : (1u << (size * 8)) - 1) << shift;
                _table = (_table & ~mask | ((uint)value << shift) & mask) & ~3u;
                break;
        }
    }

    internal void DriveReady(IdeDrive drive)
    {
        if ((_status & Active) != 0) Run(drive);
    }

    /// <param name="drive">Not the one whose transfer runs: its command was cancelled before it began.</param>
    internal void DriveFinished(IdeDrive drive, long written)
    {
        if (_running != drive) return;
        _running = null;
        Dma dma = _dma();
        foreach ((ulong address, uint length) in _regions)
        {
            uint count = (uint)Math.Min(length, written);
            if (count == 0) break;
            dma.MarkWritten(address, count);
            written -= count;
        }
        if (!_hasMore) _status &= unchecked((byte)~Active);        // a longer table leaves it set (section 3.1)
    }

    internal void InterruptRaised() => _status |= Interrupt;

    void WriteCommand(byte value)
    {
        bool wasStarted = (_command & Start) != 0;
        _command = (byte)(value & (Start | ToMemory));
        if ((value & Start) == 0)
        {
            if (_running == null) _status &= unchecked((byte)~Active); // what runs ends as usual, and is seen to
            return;
        }
        if (wasStarted) return;
        _status |= Active;
        if (_channel.WaitingForDma is { } drive) Run(drive);
    }

    void Run(IdeDrive drive)
    {
        if (_running != null) return;
        if (drive.DmaToMemory != ((_command & ToMemory) != 0)
            || !CollectRegions(drive.DmaLength, drive.DmaToMemory, out long length))
        {
            _status = (byte)(_status & ~Active | Error);
            drive.DmaRefused(tooShort: false);
            return;
        }
        if (length < drive.DmaLength)
        {
            _status &= unchecked((byte)~Active);
            drive.DmaRefused(tooShort: true);
            return;
        }
        _running = drive;
        drive.RunDma(new ScatterList(_segments, 0, 0, length));
    }

    /// <summary>Reads the table as far as the transfer needs; false where it leads outside RAM.</summary>
    bool CollectRegions(long wanted, bool toMemory, out long length)
    {
        Dma dma = _dma();
        Span<byte> descriptor = stackalloc byte[DescriptorLength];
        _segments.Clear();
        _regions.Clear();
        (length, _hasMore) = (0, false);
        for (int i = 0; i < MaxDescriptors; i++)
        {
            if (!dma.Read(_table + (ulong)i * DescriptorLength, descriptor)) return false;
            uint address = BinaryPrimitives.ReadUInt32LittleEndian(descriptor) & ~1u;
            uint control = BinaryPrimitives.ReadUInt32LittleEndian(descriptor[4..]);
            uint count = control & 0xFFFE;
            if (count == 0) count = LargestRegion;
            if (count > wanted - length)
            {
                count = (uint)(wanted - length);
                _hasMore = true;
            }
            if (!dma.TryMap(address, count, toMemory, _segments)) return false;
            _regions.Add((address, count));
            length += count;
            bool isLast = (control & EndOfTable) != 0;
            if (length == wanted)
            {
                _hasMore |= !isLast;
                return true;
            }
            if (isLast) return true;
        }
        return true;
    }
}
