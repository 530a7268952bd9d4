namespace Qkvm.Control.Gdb;

enum GdbInput
{
    /// <summary>More is to come.</summary>
    Nothing,
    Packet, Acknowledged, NotAcknowledged,
    /// <summary>Byte 3 outside packets: ctrl-c.</summary>
    Interrupt,
    /// <summary>A packet whose checksum is wrong, or one that is too long.</summary>
    Damaged, TooLong,
}

/// <summary>Cuts a stream of bytes into packets: $data#checksum, with } before escaped bytes. GDB manual, section E.1.
/// Keeps one packet, whatever is sent.</summary>
sealed class PacketReader
{
    enum Place { Outside, Inside, Escaped, FirstDigit, SecondDigit }

    readonly byte[] _data = new byte[GdbProtocol.PacketSize];
    int _length;
    byte _sum, _expected;
    bool _tooLong;
    Place _place;

    /// <summary>Checksums count; in no-ack mode nobody could ask for a packet again.</summary>
    public bool ChecksSums { get; set; } = true;

    /// <summary>After <see cref="GdbInput.Packet"/>, until the next byte.</summary>
    public ReadOnlySpan<byte> Packet => _data.AsSpan(0, _length);

    public void Reset() => (_place, ChecksSums) = (Place.Outside, true);

    public GdbInput Take(byte b)
    {
        switch (_place)
        {
            case Place.Outside: return TakeOutside(b);
            case Place.Inside when b == '#':
                _place = Place.FirstDigit;
                return GdbInput.Nothing;
            case Place.Inside when b == '$':                       // the one before was cut off
                Begin();
                return GdbInput.Nothing;
            case Place.Inside:
                _sum += b;
                if (b == GdbProtocol.Escape) _place = Place.Escaped;
                else Keep(b);
                return GdbInput.Nothing;
            case Place.Escaped:
                _sum += b;
                Keep((byte)(b ^ GdbProtocol.EscapeBit));
                _place = Place.Inside;
                return GdbInput.Nothing;
            case Place.FirstDigit:
                _expected = (byte)(GdbProtocol.DigitOf(b) << 4);
                _place = Place.SecondDigit;
                return GdbInput.Nothing;
            default:
                _expected |= (byte)(GdbProtocol.DigitOf(b) & 15);
                _place = Place.Outside;
                return ChecksSums && _expected != _sum ? GdbInput.Damaged
                    : _tooLong ? GdbInput.TooLong : GdbInput.Packet;
        }
    }

    GdbInput TakeOutside(byte b)
    {
        const byte interrupt = 3;
        if (b == '$') Begin();
        return b switch
        {
            (byte)'+' => GdbInput.Acknowledged, (byte)'-' => GdbInput.NotAcknowledged,
            interrupt => GdbInput.Interrupt, _ => GdbInput.Nothing,
        };
    }

    void Begin() => (_place, _length, _sum, _tooLong) = (Place.Inside, 0, 0, false);

    void Keep(byte b)
    {
        if (_length < _data.Length) _data[_length++] = b;
        else _tooLong = true;
    }
}
