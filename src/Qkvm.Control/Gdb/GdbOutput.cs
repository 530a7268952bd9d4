using System.Text;
using Qkvm.Core.Char;

namespace Qkvm.Control.Gdb;

/// <summary>What goes to the debugger: packets, and what a slow one has not taken yet, up to a bound.</summary>
sealed class GdbOutput(ICharBackend backend)
{
    const int MostPending = 1 << 20;

    readonly List<byte> _pending = [];
    byte[] _last = [];

    /// <summary>Nothing more is read before the debugger has taken what waits.</summary>
    public bool IsPending => _pending.Count > 0;

    public void Reset()
    {
        _pending.Clear();
        _last = [];
    }

    public void Acknowledge(bool good) => Write([good ? (byte)'+' : (byte)'-']);

    public void Packet(string data) => Packet(Encoding.Latin1.GetBytes(data));

    public void Packet(ReadOnlySpan<byte> data) => Write(_last = GdbProtocol.Frame(data));

    /// <summary>The debugger got the last packet damaged.</summary>
    public void Again() => Write(_last);

    public void Flush()
    {
        if (!IsPending) return;
        byte[] waiting = [.. _pending];
        _pending.RemoveRange(0, backend.Write(waiting));
    }

    void Write(byte[] data)
    {
        int done = IsPending ? 0 : backend.Write(data);
        if (data.Length - done <= MostPending - _pending.Count) _pending.AddRange(data[done..]);
    }
}
