using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Nvme;

/// <summary>One command of an I/O queue, from its entry to its completion. NVMe 1.4, section 6.</summary>
sealed class NvmeRequest : BlockRequest
{
    const int CompareChunk = 64 << 10, RangeLength = 16, MostRanges = 256;
    const uint ForceUnitAccess = 1 << 30, Deallocate = 1 << 25, AttributeDeallocate = 1 << 2;
    const uint AllNamespaces = uint.MaxValue;

    readonly Nvme _controller;
    readonly NvmePages _pages = new();
    readonly MediumWork _ranges;
    NvmeSubmissionQueue _queue = null!;
    NvmeNamespace _namespace = null!;
    ushort _id;
    bool _writesMemory;
    byte[]? _compared;                                             // what the medium has, of a Compare
    ScatterList _expected;
    long _at, _left;
    int _flushed;                                                  // namespaces before it are, of a Flush of all

    public NvmeRequest(Nvme controller)
    {
        _controller = controller;
        _ranges = new MediumWork(End);
    }

    public void Begin(NvmeSubmissionQueue queue, NvmeCommand command)
    {
        (_queue, _id, _writesMemory, _compared, _flushed) = (queue, command.Id, false, null, int.MaxValue);
        (Fua, MayUnmap, Length) = (false, false, 0);
        ushort status = Begin(command);
        if (status != NvmeStatus.Success) Finish((ushort)(status | NvmeStatus.DoNotRetry));
    }

    ushort Begin(NvmeCommand command)
    {
        if ((command.Flags & 0xC3) != 0) return NvmeStatus.InvalidField;   // fused, or by SGL
        if (command is { Opcode: NvmeOpcode.Flush, Namespace: AllNamespaces })
        {
            _flushed = 0;
            return FlushNext() ? NvmeStatus.Success : NvmeStatus.InvalidNamespace;
        }
        if (_controller.Find(command.Namespace) is not { } found) return NvmeStatus.InvalidNamespace;
        _namespace = found;
        if (command.Opcode is NvmeOpcode.Write or NvmeOpcode.WriteZeroes or NvmeOpcode.DatasetManagement
            && found.Backend.IsReadOnly) return NvmeStatus.WriteProtected;
        switch (command.Opcode)
        {
            case NvmeOpcode.Flush:
                Submit(BlockOperation.Flush);
                return NvmeStatus.Success;
            case NvmeOpcode.Read or NvmeOpcode.Write or NvmeOpcode.Compare: return BeginData(command);
            case NvmeOpcode.WriteZeroes:
                if (!IsInside(command, out long length)) return NvmeStatus.LbaOutOfRange;
                (Length, MayUnmap) = (length, (command[12] & Deallocate) != 0);
                Submit(BlockOperation.WriteZeroes);
                return NvmeStatus.Success;
            case NvmeOpcode.DatasetManagement: return BeginRanges(command);
            default: return NvmeStatus.InvalidOpcode;
        }
    }

    /// <summary>CDW10 to CDW12: the first block, and their number less one.</summary>
    bool IsInside(NvmeCommand command, out long length)
    {
        ulong block = command[10] | (ulong)command[11] << 32, count = (command[12] & 0xFFFF) + 1,
            all = _namespace.Blocks;
        length = (long)count * _namespace.BlockSize;
        Offset = 0;
        if (block > all || count > all - block) return false;
        Offset = (long)block * _namespace.BlockSize;
        return true;
    }

    ushort BeginData(NvmeCommand command)
    {
        bool isRead = command.Opcode == NvmeOpcode.Read;
        bool isInside = IsInside(command, out long length);
        if (length > _controller.MostData) return NvmeStatus.InvalidField;
        if (!isInside) return NvmeStatus.LbaOutOfRange;
        ushort status = _pages.Map(_controller.Dma, command.Prp1, command.Prp2, length, _controller.PageSize, isRead,
            out ScatterList memory);
        if (status != NvmeStatus.Success) return status;
        if (command.Opcode == NvmeOpcode.Compare)
        {
            (_expected, _at, _left) = (memory, 0, length);
            _compared = new byte[Math.Min(length, CompareChunk)];
            CompareNext();
            return NvmeStatus.Success;
        }
        (Buffers, _writesMemory, Fua) = (memory, isRead, (command[12] & ForceUnitAccess) != 0);
        if (isRead) Count(1, 0, length, 0);
        else Count(0, 1, 0, length);
        Submit(isRead ? BlockOperation.Read : BlockOperation.Write);
        return NvmeStatus.Success;
    }

    void Count(uint reads, uint writes, long bytesRead, long bytesWritten)
    {
        _namespace.ReadCommands += reads;
        _namespace.WriteCommands += writes;
        _namespace.BytesRead += (ulong)bytesRead;
        _namespace.BytesWritten += (ulong)bytesWritten;
    }

    void CompareNext()
    {
        int count = (int)Math.Min(_left, CompareChunk);
        Buffers = new ScatterList(_compared.AsMemory(0, count));
        Submit(BlockOperation.Read);
    }

    void ComparePiece()
    {
        int count = (int)Math.Min(_left, CompareChunk), at = 0;
        foreach (Memory<byte> piece in _expected.Slice(_at, count))
        {
            if (!piece.Span.SequenceEqual(_compared.AsSpan(at, piece.Length)))
            {
                Finish(NvmeStatus.CompareFailure);
                return;
            }
            at += piece.Length;
        }
        (_at, _left, Offset) = (_at + count, _left - count, Offset + count);
        if (_left > 0) CompareNext();
        else Finish(NvmeStatus.Success);
    }

    /// <summary>Section 6.7: hints alone but for those to deallocate.</summary>
    ushort BeginRanges(NvmeCommand command)
    {
        Span<byte> list = stackalloc byte[MostRanges * RangeLength];
        int count = (int)(command[10] & 0xFF) + 1;
        list = list[..(count * RangeLength)];
        ushort status = _pages.Map(_controller.Dma, command.Prp1, command.Prp2, list.Length, _controller.PageSize,
            toMemory: false, out ScatterList memory);
        if (status != NvmeStatus.Success) return status;
        memory.CopyTo(list);
        _ranges.Discard();
        for (int at = 0; at < list.Length; at += RangeLength)
        {
            ulong length = BinaryPrimitives.ReadUInt32LittleEndian(list[(at + 4)..]),
                block = BinaryPrimitives.ReadUInt64LittleEndian(list[(at + 8)..]);
            if (block > _namespace.Blocks || length > _namespace.Blocks - block)
            {
                _ranges.Clear();
                return NvmeStatus.LbaOutOfRange;
            }
            _ranges.Add((long)block * _namespace.BlockSize, (long)length * _namespace.BlockSize);
        }
        if ((command[11] & AttributeDeallocate) == 0) _ranges.Clear();
        if (_ranges.IsEmpty) Finish(NvmeStatus.Success);
        else _ranges.Start(_namespace.Backend);
        return NvmeStatus.Success;
    }

    /// <summary>False: there is no further one.</summary>
    bool FlushNext()
    {
        if (_controller.FindFrom(_flushed) is not { } next) return false;
        (_namespace, _flushed) = (next, next.Id);
        Submit(BlockOperation.Flush);
        return true;
    }

    void Submit(BlockOperation operation)
    {
        Operation = operation;
        // a Compare goes from piece to piece, and not deeper and deeper
        if (operation == BlockOperation.Read && _compared == null) _namespace.Backend.SubmitNow(this);
        else _namespace.Backend.Submit(this);
    }

    public override void Complete(int errno)
    {
        Buffers = default;
        if (_compared != null && errno == 0) ComparePiece();
        else if (Operation == BlockOperation.Flush && errno == 0 && _flushed != int.MaxValue && FlushNext()) return;
        else End(errno);
    }

    void End(int errno)
    {
        const int noSpace = 28;
        Finish(errno switch
        {
            0 => NvmeStatus.Success,
            noSpace => NvmeStatus.CapacityExceeded,
            _ => Operation == BlockOperation.Read ? NvmeStatus.ReadError : NvmeStatus.WriteFault,
        });
    }

    void Finish(ushort status)
    {
        if (_writesMemory) _pages.MarkWritten(_controller.Dma);
        _pages.Forget();
        (_compared, _expected) = (null, default);
        _controller.Ended(this, _queue, _id, status);
    }
}
