using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Http;

/// <summary>Keeps what was read last, with more than was asked for: disks are read in order, in small
/// pieces.</summary>
/// <param name="window">Bytes that are read at one time at least.</param>
sealed class ReadAhead(long length, int window, Action<long, Memory<byte>> read)
{
    const int MaxKept = 8;

    readonly List<(long Offset, byte[] Data)> _kept = [];          // the newest first

    /// <summary>From any thread.</summary>
    public void Read(long offset, Memory<byte> buffer)
    {
        if (buffer.Length >= window)
        {
            read(offset, buffer);
            return;
        }
        if (TryKept(offset, buffer)) return;
        var data = new byte[Math.Min(window, length - offset)];
        read(offset, data);
        data.AsSpan(0, buffer.Length).CopyTo(buffer.Span);
        lock (_kept)
        {
            _kept.Insert(0, (offset, data));
            if (_kept.Count > MaxKept) _kept.RemoveAt(MaxKept);
        }
    }

    /// <summary>The same, if all of it is here.</summary>
    public bool TryRead(long offset, ScatterList buffers)
    {
        foreach (Memory<byte> piece in buffers)
        {
            if (!TryKept(offset, piece)) return false;
            offset += piece.Length;
        }
        return true;
    }

    bool TryKept(long offset, Memory<byte> buffer)
    {
        lock (_kept)
            for (int i = 0; i < _kept.Count; i++)
            {
                (long start, byte[] data) = _kept[i];
                if (offset < start || offset + buffer.Length > start + data.Length) continue;
                data.AsSpan((int)(offset - start), buffer.Length).CopyTo(buffer.Span);
                (_kept[0], _kept[i]) = (_kept[i], _kept[0]);
                return true;
            }
        return false;
    }
}
