using Qkvm.Core.Block;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Copying;

enum PieceKind { Data, Zero, Skip }

/// <param name="Status">What the source that it begins in knows of it.</param>
readonly record struct CopyPiece(PieceKind Kind, long Offset, int Length, BlockStatus Status);

/// <summary>Cuts a disk into pieces of one kind each, from its start to its end. Under the copier's lock.</summary>
sealed class PieceSource(CopyPlan plan)
{
    readonly int _unit = plan.IsCompressed ? plan.Target.Facts.ClusterSize ?? Copier.Piece : Copier.Piece;
    int _source;
    long _start, _at;                                              // of the source in the disk; of what is left
    PieceKind _kind;
    BlockStatus _status;
    long _known, _knownFrom;                                       // until here the kind is that; from there it was

    public bool Next(out CopyPiece piece)
    {
        piece = default;
        if (_at >= plan.Length) return false;
        if (_at >= _known) Look();
        // Data ends where the target's pieces do, so that zeros and clusters are found where they are.
        long most = _kind == PieceKind.Data ? _unit - _at % _unit : 1 << 30;
        int length = (int)Math.Min(_known - _at, most);
        BlockStatus status = _status with { HostOffset = _status.HostOffset + (_at - _knownFrom) };
        piece = new CopyPiece(_kind, _at, length, status);
        _at += length;
        return true;
    }

    void Look()
    {
        while (_at - _start >= plan.Sources[_source].Length) _start += plan.Sources[_source++].Length;
        BlockDriver source = plan.Sources[_source];
        long offset = _at - _start, length = Math.Min(source.Length - offset, plan.Length - _at);
        if (plan.IsCompressed) length = Math.Min(length, 1 << 30);
        ValueTask<BlockStatus> asked = plan.Backing != null ? source.StatusAsync(offset, length)
            : AllLayersAsync(source, offset, length);
        _status = asked.AsTask().GetAwaiter().GetResult();
        (_knownFrom, _known) = (_at, _at + _status.Length);
        if (_status.IsZero && !(plan.IsCompressed && plan.Sparse == 0))
            _kind = plan.Backing is { } end && _at >= end || IsLeftOut ? PieceKind.Skip : PieceKind.Zero;
        else _kind = plan.Backing != null && !_status.IsAllocated ? PieceKind.Skip : PieceKind.Data;
        if (plan.IsCompressed) TrimToClusters();
    }

    static async ValueTask<BlockStatus> AllLayersAsync(BlockDriver source, long offset, long length) =>
        (await ChainStatus.OfImageAsync(source, offset, length).ConfigureAwait(false)).Status;

    /// <summary>Zeros need not be written.</summary>
    bool IsLeftOut => plan.TargetIsZero && plan.Sparse > 0;

    /// <summary>A cluster that is to be compressed is read whole, also where it lies in several sources, or only a
    /// part of it is data.</summary>
    void TrimToClusters()
    {
        long end = _known >= plan.Length ? plan.Length : _known - _known % _unit;
        if (_kind != PieceKind.Data && end > _at) _known = end;
        else (_kind, _known) = (PieceKind.Data, Math.Min(plan.Length, (_known + _unit - 1) / _unit * _unit));
    }
}
