using System.Buffers.Binary;

namespace Qkvm.Host.Sockets;

enum WebSocketInput { None, Data, Ping, Close, Broken, NotBinary }

/// <summary>Takes apart the frames that a client sends. Spec: RFC 6455, section 5.</summary>
/// <remarks>Data passes through as it comes, whatever length a frame announces; frames may be split anywhere.</remarks>
sealed class WebSocketReader
{
    public const int MaxControl = 125;

    const byte Final = 0x80, Reserved = 0x70, Masked = 0x80, ControlBit = 8;
    const int Continuation = 0, Text = 1, Binary = 2, CloseCode = 8, PingCode = 9, PongCode = 10;
    const int Length16 = 126, Length64 = 127;

    readonly byte[] _header = new byte[14];
    readonly byte[] _control = new byte[MaxControl];
    int _headerLength;
    ulong _length, _at;
    uint _mask;
    bool _inFrame, _inMessage;

    /// <summary>What a ping or a close carried.</summary>
    public ReadOnlySpan<byte> Control => _control.AsSpan(0, (int)_length);

    /// <summary>Goes on until there is something to say.</summary>
    /// <param name="raw">What has been read; what was used is taken off its front.</param>
    /// <param name="produced">Bytes put into the target, with Data alone.</param>
    public WebSocketInput Take(ref ReadOnlySpan<byte> raw, Span<byte> target, out int produced)
    {
        produced = 0;
        while (true)
        {
            if (!_inFrame)
            {
                if (raw.IsEmpty) return WebSocketInput.None;
                _header[_headerLength++] = raw[0];
                raw = raw[1..];
                if (_headerLength < HeaderNeeded) continue;
                if (Begin() is not WebSocketInput.None and var wrong) return wrong;
            }
            bool isControl = (Code & ControlBit) != 0;
            int count = (int)Math.Min((ulong)Math.Min(raw.Length, isControl ? MaxControl : target.Length),
                _length - _at);
            Unmask(raw[..count], isControl ? _control.AsSpan((int)_at) : target);
            raw = raw[count..];
            _at += (ulong)count;
            bool ends = _inFrame = _at < _length;
            if (!_inFrame) _headerLength = 0;
            if (!isControl && count > 0)
            {
                produced = count;
                return WebSocketInput.Data;
            }
            if (ends) return WebSocketInput.None;
            if (isControl && Code == PingCode) return WebSocketInput.Ping;
            if (isControl && Code == CloseCode) return WebSocketInput.Close;
        }
    }

    int Code => _header[0] & 0xF;

    int HeaderNeeded => _headerLength < 2 ? 2 : 2 + (_header[1] & 0x7F) switch { Length16 => 2, Length64 => 8, _ => 0 }
        + ((_header[1] & Masked) != 0 ? 4 : 0);

    /// <summary>A header is complete.</summary>
    WebSocketInput Begin()
    {
        int size = _header[1] & 0x7F;
        _length = size switch
        {
            Length16 => BinaryPrimitives.ReadUInt16BigEndian(_header.AsSpan(2)),
            Length64 => BinaryPrimitives.ReadUInt64BigEndian(_header.AsSpan(2)),
            _ => (ulong)size,
        };
        bool isFinal = (_header[0] & Final) != 0;
        if ((_header[0] & Reserved) != 0 || (_header[1] & Masked) == 0 || _length > long.MaxValue)
            return WebSocketInput.Broken;
        switch (Code)
        {
            case Text: return WebSocketInput.NotBinary;
            case Continuation or Binary:
                if (_inMessage != (Code == Continuation)) return WebSocketInput.Broken;
                _inMessage = !isFinal;
                break;
            case CloseCode or PingCode or PongCode:
                if (!isFinal || _length > MaxControl) return WebSocketInput.Broken;
                break;
            default: return WebSocketInput.Broken;
        }
        _mask = BinaryPrimitives.ReadUInt32LittleEndian(_header.AsSpan(_headerLength - 4));
        (_at, _inFrame) = (0, true);
        return WebSocketInput.None;
    }

    void Unmask(ReadOnlySpan<byte> data, Span<byte> target)
    {
        for (int i = 0; i < data.Length; i++)
            target[i] = (byte)(data[i] ^ _mask >> 8 * (int)(_at + (ulong)i & 3));
    }
}
