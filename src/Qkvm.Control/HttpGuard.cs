using System.Text;

namespace Qkvm.Control;

/// <summary>A page in a browser can POST to a port on this machine: what begins like HTTP gets no monitor.</summary>
sealed class HttpGuard
{
    static readonly byte[][] s_verbs =
        [.. new[] { "GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "PATCH ",
            "DELETE " }.Select(Encoding.ASCII.GetBytes)];

    readonly byte[] _start = new byte["OPTIONS ".Length];
    int _length;

    /// <summary>Nothing more is taken of this connection.</summary>
    public bool Refuses { get; private set; }

    public void Reset() => (_length, Refuses) = (0, false);

    /// <summary>Looks at the first bytes of a connection.</summary>
    /// <returns>Whether it has just been found out.</returns>
    public bool Look(ReadOnlySpan<byte> data)
    {
        int room = Math.Min(_start.Length - _length, data.Length);
        if (Refuses || room == 0) return false;
        data[..room].CopyTo(_start.AsSpan(_length));
        _length += room;
        foreach (byte[] verb in s_verbs) Refuses |= _start.AsSpan(0, _length).StartsWith(verb);
        return Refuses;
    }
}
