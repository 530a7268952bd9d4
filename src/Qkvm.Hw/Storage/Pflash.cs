using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Hw.Storage;

/// <summary>cfi.pflash01: a parallel NOR flash, one byte wide, of Intel's command set (CFI 0001h). Spec: Intel
/// StrataFlash Memory (J3) data sheet, sections 4 (commands) and 4.4 (status register); JEDEC JESD68 for the
/// query.</summary>
/// <remarks>Its memory is what the guest reads and executes in array mode; in all other modes reads are registers. What
/// is programmed or erased reaches the drive behind the guest's back: Ready is clear until then.
/// Deviations: commands are taken while it is not ready; no suspending, no locks of blocks, no protection register;
/// clearing the status clears Ready, too, as in QEMU: firmware tells flash from RAM by that.</remarks>
public sealed class Pflash : IDevice, IRegisterBank
{
    public const string Driver = "cfi.pflash01";

    /// <summary>Bytes that are erased at once.</summary>
    public const int SectorSize = 4096;

    internal const int BufferSize = 256;
    const byte Erased = 0xFF;

    // Commands
    const byte ReadArray = 0xFF, ReadIdentifier = 0x90, ReadQuery = 0x98, ReadStatus = 0x70, ClearStatus = 0x50,
        BlockErase = 0x20, ProgramByte = 0x10, ProgramByteToo = 0x40, WriteBuffer = 0xE8, Locks = 0x60, Confirm = 0xD0;

    // Status register
    const byte Ready = 1 << 7, EraseError = 1 << 5, ProgramError = 1 << 4, BlockLocked = 1 << 1;

    const byte SequenceError = EraseError | ProgramError;

    /// <summary>What the next write is.</summary>
    enum Cycle : byte { Command, ProgramData, EraseConfirm, LockConfirm, BufferCount, BufferData, BufferConfirm }

    readonly GuestRam _memory;
    readonly FlashStore _store;
    readonly bool _isReadOnly;
    readonly byte[] _query;
    readonly byte[] _buffer = new byte[BufferSize];                // what is not written stays erased
    byte _command, _status;
    byte _cycle;
    int _bufferAt, _bufferLeft;                                    // -1: no address yet

    /// <param name="memory">With the drive's contents: whole sectors.</param>
    /// <param name="drive">Where they are kept; a read-only one cannot be programmed.</param>
    public Pflash(GuestRam memory, BlockBackend drive)
    {
        (_memory, _isReadOnly) = (memory, drive.IsReadOnly);
        _store = new FlashStore(memory, drive, failed => _status |= failed);
        _query = FlashQuery.Table(memory.Size);
        Region = MemoryRegion.Rom(memory.Name, memory, 0, memory.Size, this, AccessSizes.Bytes);
        Contents = MemoryRegion.Rom(memory.Name, memory, 0, memory.Size);
        Reset();
    }

    public string Name => Driver;

    /// <summary>For the board to map.</summary>
    public MemoryRegion Region { get; }

    /// <summary>What those find who may neither write nor know of its modes.</summary>
    public MemoryRegion Contents { get; }

    public void Reset()
    {
        _status = Ready;
        EmptyBuffer();
        EnterArray();
    }

    /// <summary>In all modes but the array's. QEMU's chip has no maker, and no block of ours is locked: identifier
    /// codes are zeros.</summary>
    public ulong Read(ulong offset, int size) => _command switch
    {
        ReadArray => _memory.Read(offset, 1),
        ReadIdentifier => 0,
        ReadQuery => (offset & 0xFF) < (ulong)_query.Length ? _query[offset & 0xFF] : 0u,
        _ => _store.IsBusy ? (byte)(_status & ~Ready) : _status,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        byte data = (byte)value;
        Cycle cycle = (Cycle)_cycle;
        _cycle = (byte)Cycle.Command;
        switch (cycle)
        {
            case Cycle.Command: Begin(data); break;
            case Cycle.ProgramData: Program(offset, [data]); break;
            case Cycle.EraseConfirm when data == Confirm: Erase(offset & ~(ulong)(SectorSize - 1)); break;
            case Cycle.LockConfirm when data != ReadArray: _status |= Ready; break;
            case Cycle.BufferCount:
                EmptyBuffer();
                _bufferLeft = data + 1;
                Expect(Cycle.BufferData);
                break;
            case Cycle.BufferData: Fill(offset, data); break;
            case Cycle.BufferConfirm when data == Confirm: Program((ulong)_bufferAt, _buffer); break;
            default:
                if (data != ReadArray) _status |= Ready | SequenceError;
                EnterArray();
                break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Field("command", ref _command);
        state.Field("cycle", ref _cycle);
        state.Field("status", ref _status);
        state.Field("buffer-at", ref _bufferAt, -1, (int)_memory.Size - BufferSize);
        state.Field("buffer-left", ref _bufferLeft, 0, BufferSize);
        state.Block("buffer", _buffer);
        if (_cycle > (byte)Cycle.BufferConfirm) throw state.Refuse("cycle", $"{_cycle} is none");
        if (_bufferLeft == 0 && (Cycle)_cycle == Cycle.BufferData) throw state.Refuse("buffer-left", "nothing is left");
        if (_bufferAt % BufferSize is not (0 or -1) || _bufferAt < 0 && (Cycle)_cycle == Cycle.BufferConfirm)
            throw state.Refuse("buffer-at", $"{_bufferAt} is no place of a buffer");
        if (state.IsLoading) Region.ReadsBank = _command != ReadArray;
    }

    void Begin(byte command)
    {
        _command = command;
        switch (command)
        {
            case ProgramByte or ProgramByteToo: Expect(Cycle.ProgramData); break;
            case BlockErase: Expect(Cycle.EraseConfirm); break;
            case Locks: Expect(Cycle.LockConfirm); break;
            case WriteBuffer:
                _status |= Ready;                                  // the buffer is free, always
                Expect(Cycle.BufferCount);
                break;
            case ReadStatus or ReadIdentifier or ReadQuery: break;
            case ClearStatus:
                _status = 0;
                EnterArray();
                return;
            default:
                EnterArray();
                return;
        }
        Region.ReadsBank = true;
    }

    void Expect(Cycle next) => _cycle = (byte)next;

    void EnterArray()
    {
        (_command, _cycle) = (ReadArray, (byte)Cycle.Command);
        Region.ReadsBank = false;
    }

    /// <summary>One byte of those that the command announced; all lie in one block of the buffer's size.</summary>
    void Fill(ulong offset, byte data)
    {
        int at = (int)offset & ~(BufferSize - 1);
        if (_bufferAt < 0) _bufferAt = at;
        if (at != _bufferAt)
        {
            _status |= Ready | SequenceError;
            EnterArray();
            return;
        }
        _buffer[offset % BufferSize] = data;
        Expect(--_bufferLeft > 0 ? Cycle.BufferData : Cycle.BufferConfirm);
    }

    void EmptyBuffer()
    {
        (_bufferAt, _bufferLeft) = (-1, 0);
        _buffer.AsSpan().Fill(Erased);
    }

    /// <summary>Clears bits; only erasing sets them.</summary>
    void Program(ulong offset, ReadOnlySpan<byte> data)
    {
        _status |= Ready;
        if (_isReadOnly)
        {
            _status |= ProgramError | BlockLocked;
            return;
        }
        Span<byte> at = _memory.Span(offset, data.Length);
        for (int i = 0; i < data.Length; i++) at[i] &= data[i];
        Changed(offset, data.Length, ProgramError);
    }

    void Erase(ulong sector)
    {
        _status |= Ready;
        if (_isReadOnly)
        {
            _status |= EraseError | BlockLocked;
            return;
        }
        _memory.Span(sector, SectorSize).Fill(Erased);
        Changed(sector, SectorSize, EraseError);
    }

    void Changed(ulong offset, int length, byte failure)
    {
        _memory.MarkWritten(offset, (ulong)length);
        _store.Keep(offset, length, failure);
    }
}
