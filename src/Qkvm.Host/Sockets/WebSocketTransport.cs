using System.Buffers.Binary;

namespace Qkvm.Host.Sockets;

/// <summary>The server's side of a websocket over another transport: answers the handshake, then carries bytes in
/// binary frames. Spec: RFC 6455.</summary>
/// <remarks>Keeps one request or one frame at most in each direction, whatever the client sends or does not
/// read.</remarks>
/// <param name="onOpened">The handshake is over.</param>
public sealed class WebSocketTransport(ITransport inner, Action onOpened) : ITransport
{
    /// <summary>Browsers send cookies of a whole site, too.</summary>
    internal const int MaxRequest = 8192;

    const int MaxPayload = 4096, MaxHeader = 4;
    const byte BinaryFrame = 0x82, CloseFrame = 0x88, PongFrame = 0x8A;
    const ushort ProtocolError = 1002, UnsupportedData = 1003;     // RFC 6455, section 7.4.1

    readonly WebSocketReader _reader = new();
    readonly byte[] _raw = new byte[MaxRequest];
    readonly byte[] _out = new byte[MaxHeader + MaxPayload];
    int _rawStart, _rawEnd, _outStart, _outEnd;
    bool _isOpen, _ends;

    public int InputFd => inner.InputFd;
    public int OutputFd => inner.OutputFd;
    public bool HasInput => _isOpen && _rawStart < _rawEnd || inner.HasInput;
    public bool WantsToWrite => _outStart < _outEnd;
    public int TakeDescriptor() => inner.TakeDescriptor();
    public void Dispose() => inner.Dispose();

    public int Read(Span<byte> buffer)
    {
        if (_ends) return 0;
        if (!_isOpen) return ReadRequest();
        if (_rawStart == _rawEnd && Fill() is <= 0 and var failure) return failure;
        while (_rawStart < _rawEnd)
        {
            ReadOnlySpan<byte> raw = _raw.AsSpan(_rawStart, _rawEnd - _rawStart);
            WebSocketInput what = _reader.Take(ref raw, buffer, out int produced);
            _rawStart = _rawEnd - raw.Length;
            switch (what)
            {
                case WebSocketInput.Data: return produced;
                case WebSocketInput.Ping: Say(PongFrame, _reader.Control); break;
                case WebSocketInput.Close: return End(_reader.Control);
                case WebSocketInput.Broken: return End(ProtocolError);
                case WebSocketInput.NotBinary: return End(UnsupportedData);
            }
        }
        return -Libc.EAgain;
    }

    public int Write(ReadOnlySpan<byte> data)
    {
        if (Flush() is < 0 and var failure) return failure;
        if (!_isOpen || data.IsEmpty) return 0;
        int count = Math.Min(data.Length, MaxPayload);
        Keep(BinaryFrame, data[..count]);
        return Flush() is < 0 and var lost && lost != -Libc.EAgain ? lost : count;
    }

    int Fill()
    {
        int n = inner.Read(_raw);
        if (n > 0) (_rawStart, _rawEnd) = (0, n);
        return n;
    }

    int ReadRequest()
    {
        int n = inner.Read(_raw.AsSpan(_rawEnd));
        if (n <= 0) return n;
        _rawEnd += n;
        int end = _raw.AsSpan(0, _rawEnd).IndexOf("\r\n\r\n"u8);
        if (end < 0 && _rawEnd < _raw.Length) return -Libc.EAgain;
        (byte[] answer, _isOpen) = end < 0 ? (WebSocketHandshake.TooLong, false)
            : WebSocketHandshake.Answer(_raw.AsSpan(0, end));
        _rawStart = end + 4;
        answer.CopyTo(_out, 0);
        _outEnd = answer.Length;
        Flush();
        _ends = !_isOpen;
        if (_ends) return 0;
        onOpened();
        return -Libc.EAgain;
    }

    int End(ushort status)
    {
        Span<byte> code = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(code, status);
        return End(code);
    }

    /// <summary>Says so, if there is room to, and is at its end.</summary>
    int End(ReadOnlySpan<byte> why)
    {
        Say(CloseFrame, why);
        _ends = true;
        return 0;
    }

    /// <summary>A control frame, which is left out while the client does not read.</summary>
    void Say(byte first, ReadOnlySpan<byte> payload)
    {
        if (Flush() < 0) return;
        Keep(first, payload);
        Flush();
    }

    /// <param name="payload">At most <see cref="MaxPayload"/> bytes.</param>
    void Keep(byte first, ReadOnlySpan<byte> payload)
    {
        _out[0] = first;
        bool isShort = payload.Length <= WebSocketReader.MaxControl;
        _out[1] = isShort ? (byte)payload.Length : (byte)126;
        if (!isShort) BinaryPrimitives.WriteUInt16BigEndian(_out.AsSpan(2), (ushort)payload.Length);
        int header = isShort ? 2 : MaxHeader;
        payload.CopyTo(_out.AsSpan(header));
        (_outStart, _outEnd) = (0, header + payload.Length);
    }

    /// <returns>0 once all has gone, or a negative errno.</returns>
    int Flush()
    {
        while (_outStart < _outEnd)
        {
            int n = inner.Write(_out.AsSpan(_outStart, _outEnd - _outStart));
            if (n <= 0) return n == 0 ? -Libc.EAgain : n;
            _outStart += n;
        }
        return 0;
    }
}
