namespace Qkvm.Backends.Char;

/// <summary>The server side of telnet: takes commands out of what the client sends. RFC 854, 857 (echo), 858 (go-ahead).</summary>
/// <remarks>State survives between reads, since a command may be split anywhere.</remarks>
public sealed class Telnet
{
    const byte Iac = 255, Dont = 254, Do = 253, Wont = 252, Will = 251, SubBegin = 250, Break = 243, SubEnd = 240;
    const byte Echo = 1, SuppressGoAhead = 3, Binary = 0;

    enum State { Data, Command, Option, Sub, SubCommand, CarriageReturn }

    State _state;

    /// <summary>Character mode: we echo, no go-ahead, eight bits both ways.</summary>
    public static ReadOnlySpan<byte> Greeting =>
        [Iac, Will, Echo, Iac, Will, SuppressGoAhead, Iac, Will, Binary, Iac, Do, Binary];

    /// <summary>Compacts data in place and returns its new length; <paramref name="breaks"/> counts Break commands.</summary>
    public int Filter(Span<byte> data, out int breaks)
    {
        breaks = 0;
        int kept = 0;
        foreach (byte b in data)
        {
            switch (_state)
            {
                case State.Data when b == Iac: _state = State.Command; break;
                case State.Data:
                    data[kept++] = b;
                    if (b == '\r') _state = State.CarriageReturn;
                    break;
                case State.CarriageReturn:                         // CR NUL and CR LF are one key
                    _state = b == Iac ? State.Command : State.Data;
                    if (b is not (0 or (byte)'\n' or Iac)) data[kept++] = b;
                    break;
                case State.Command:
                    _state = b switch { SubBegin => State.Sub, Will or Wont or Do or Dont => State.Option, _ => State.Data };
                    if (b == Iac) data[kept++] = Iac;
                    if (b == Break) breaks++;
                    break;
                case State.Option: _state = State.Data; break;
                case State.Sub: if (b == Iac) _state = State.SubCommand; break;
                case State.SubCommand: _state = b == SubEnd ? State.Data : State.Sub; break;
            }
        }
        return kept;
    }

    public void Reset() => _state = State.Data;

    /// <summary>Doubles IAC bytes. Returns bytes written into the target, which holds twice the data.</summary>
    public static int Escape(ReadOnlySpan<byte> data, Span<byte> target)
    {
        int n = 0;
        foreach (byte b in data)
        {
            target[n++] = b;
            if (b == Iac) target[n++] = Iac;
        }
        return n;
    }
}
