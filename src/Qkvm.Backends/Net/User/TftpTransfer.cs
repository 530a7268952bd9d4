using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>A file on its way to a guest.</summary>
/// <param name="isText">netascii: line ends become CR LF, and a CR of its own CR NUL. RFC 764.</param>
sealed class TftpTransfer(IpEndpoint guest, IpEndpoint server, MacAddress mac, SharedFile file, bool isText)
    : IDisposable
{
    const int HeaderLength = 4, DefaultBlock = 512, DefaultPatience = 1000, MaxAttempts = 5;

    byte[] _message = [];
    int _length;
    long _position;
    byte? _second;                                                 // of a pair that the last block had no room for

    public IpEndpoint Guest => guest;
    public IpEndpoint Server => server;
    public MacAddress Mac => mac;
    public bool IsText => isText;

    /// <summary>Bytes of the file.</summary>
    public long Length => file.Length;

    public int BlockSize { get; set; } = DefaultBlock;

    /// <summary>Milliseconds until the message goes again.</summary>
    public int Patience { get; set; } = DefaultPatience;

    public long Due { get; set; }
    public int Attempts { get; set; }

    /// <summary>What the guest has to acknowledge, and with which number.</summary>
    public ReadOnlySpan<byte> Message => _message.AsSpan(0, _length);
    public ushort Number { get; private set; }

    /// <summary>A block that is not full ends the file.</summary>
    public bool IsLast { get; private set; }

    /// <summary>Another message than a block comes first, which number 0 acknowledges.</summary>
    public void Begin(byte[] message) => (_message, _length, Attempts) = (message, message.Length, MaxAttempts);

    /// <summary>Makes the next block. False: the file cannot be read.</summary>
    public bool Advance()
    {
        if (_message.Length != HeaderLength + BlockSize) _message = new byte[HeaderLength + BlockSize];
        Span<byte> block = _message.AsSpan(HeaderLength);
        int count = isText ? ReadText(block) : file.Read(_position, block);
        if (count < 0) return false;
        if (!isText) _position += count;
        Number++;
        Attempts = MaxAttempts;
        Tftp.WriteData(_message, Number);
        _length = HeaderLength + count;
        IsLast = count < BlockSize;
        return true;
    }

    public void Dispose() => file.Dispose();

    int ReadText(Span<byte> block)
    {
        Span<byte> source = stackalloc byte[block.Length];
        int count = file.Read(_position, source), at = 0;
        if (count < 0) return count;
        if (_second is { } left) block[at++] = left;
        _second = null;
        for (int i = 0; i < count && at < block.Length; i++, _position++)
        {
            byte[]? pair = source[i] switch { (byte)'\n' => s_line, (byte)'\r' => s_return, _ => null };
            block[at++] = pair?[0] ?? source[i];
            if (pair == null) continue;
            if (at < block.Length) block[at++] = pair[1];
            else _second = pair[1];
        }
        return at;
    }

    static readonly byte[] s_line = [(byte)'\r', (byte)'\n'], s_return = [(byte)'\r', 0];
}
