using Qkvm.Core.Accel;

namespace Qkvm.Control.Gdb;

public sealed partial class GdbSession
{
    const int MostPoints = 1024;
    const ulong LongestWatch = 1 << 20;

    /// <summary>Replaced whole: the machine has the one that it runs with.</summary>
    IReadOnlyList<DebugPoint> _points = [];

    /// <summary>kind,address,length: Z sets, z removes.</summary>
    void SetPoint(string text, bool set)
    {
        if (text.Length < 3 || text[1] != ',' || text[0] is < '0' or > '9'
            || !GdbProtocol.TryPair(text[2..].Split(';')[0], ',', out ulong at, out ulong length))
        {
            Reply(GdbProtocol.Invalid);
            return;
        }
        int kind = text[0] - '0';
        if (kind > (int)DebugPointKind.Access) { Reply(GdbProtocol.NotKnown); return; }
        // As it was written: a kernel's address may be set while the processor is still in real mode.
        var point = new DebugPoint((DebugPointKind)kind, at, kind < (int)DebugPointKind.Write ? 1 : length);
        Reply((set ? TryAdd(point) : TryRemove(point)) ? GdbProtocol.Ok : GdbProtocol.Invalid);
    }

    bool TryAdd(DebugPoint point)
    {
        if (_points.Count >= MostPoints || point.Length is 0 or > LongestWatch) return false;
        if (_points.Contains(point)) return true;
        IReadOnlyList<DebugPoint> points = [.. _points, point];
        if (!_machine.CanStopAt(points)) return false;
        _points = points;
        return true;
    }

    bool TryRemove(DebugPoint point)
    {
        if (!_points.Contains(point)) return false;
        _points = [.. _points.Where(other => other != point)];
        return true;
    }

    void RemovePoints() => _machine.DebugPoints = _points = [];
}
