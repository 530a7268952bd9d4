namespace Qkvm.Backends.Char;

/// <summary>The server side of telnet: takes commands out of what the client sends, and answers them. Spec: RFC 854,
/// 855 (options), 856 (binary), 857 (echo), 858 (go-ahead), 1143 (negotiation without loops).</summary>
/// <remarks>State survives between reads, since a command may be split anywhere.</remarks>
public sealed class Telnet
{
    const byte Iac = 255, Dont = 254, Do = 253, Wont = 252, Will = 251, SubBegin = 250, AreYouThere = 246, Break = 243,
        SubEnd = 240;
    const byte Binary = 0, Echo = 1, SuppressGoAhead = 3;

    enum State { Data, Command, Option, Sub, SubCommand, CarriageReturn }

    /// <summary>RFC 1143, section 7: of an option on one side. We never change our mind, so that its queues are not
    /// needed.</summary>
    enum Side { No, Yes, WantYes }

    readonly Side[] _ours = new Side[SuppressGoAhead + 1], _theirs = new Side[SuppressGoAhead + 1];
    readonly List<byte> _answers = [];
    State _state;
    byte _verb;

    public Telnet() => Reset();

    /// <summary>Character mode: we echo, no go-ahead, eight bits both ways.</summary>
    public static ReadOnlySpan<byte> Greeting =>
        [Iac, Will, Echo, Iac, Will, SuppressGoAhead, Iac, Will, Binary, Iac, Do, Binary];

    /// <summary>What the client is to hear about the last piece of data that was filtered.</summary>
    public IReadOnlyList<byte> Answers => _answers;

    /// <summary>Compacts data in place and returns its new length; <paramref name="breaks"/> counts Break
    /// commands.</summary>
    public int Filter(Span<byte> data, out int breaks)
    {
        breaks = 0;
        int kept = 0;
        _answers.Clear();
        foreach (byte b in data)
        {
            switch (_state)
            {
                case State.Data when b == Iac: _state = State.Command; break;
                case State.Data:
                    data[kept++] = b;
                    if (b == '\r' && _theirs[Binary] != Side.Yes) _state = State.CarriageReturn;
                    break;
                case State.CarriageReturn:                         // CR NUL and CR LF are one key
                    _state = b == Iac ? State.Command : State.Data;
                    if (b is not (0 or (byte)'\n' or Iac)) data[kept++] = b;
                    break;
                case State.Command:
                    _state = b switch { SubBegin => State.Sub, Will or Wont or Do or Dont => State.Option,
                        _ => State.Data };
                    _verb = b;
                    if (b == Iac) data[kept++] = Iac;
                    if (b == Break) breaks++;
                    // "some visible (i.e., printable) evidence"
                    if (b == AreYouThere) _answers.AddRange("\r\n[yes]\r\n"u8);
                    break;
                case State.Option:
                    Negotiate(_verb, b);
                    _state = State.Data;
                    break;
                case State.Sub: if (b == Iac) _state = State.SubCommand; break;
                case State.SubCommand: _state = b == SubEnd ? State.Data : State.Sub; break;
            }
        }
        return kept;
    }

    /// <summary>A new client, which gets the greeting.</summary>
    public void Reset()
    {
        _state = State.Data;
        Array.Clear(_theirs);
        _ours[Echo] = _ours[SuppressGoAhead] = _ours[Binary] = _theirs[Binary] = Side.WantYes;
    }

    /// <summary>RFC 855: what is not understood is refused; RFC 1143: what is so already is not answered, nor is the
    /// answer to a request of ours.</summary>
    void Negotiate(byte verb, byte option)
    {
        bool isOurs = verb is Do or Dont, enable = verb is Do or Will;
        Side[] sides = isOurs ? _ours : _theirs;
        bool known = isOurs ? option is Echo or SuppressGoAhead or Binary : option is SuppressGoAhead or Binary;
        if (!known)
        {
            if (enable) Answer(isOurs ? Wont : Dont, option);
            return;
        }
        Side before = sides[option];
        sides[option] = enable ? Side.Yes : Side.No;
        if (enable && before == Side.No) Answer(isOurs ? Will : Do, option);
        if (!enable && before == Side.Yes) Answer(isOurs ? Wont : Dont, option);
    }

    void Answer(byte verb, byte option) => _answers.AddRange([Iac, verb, option]);

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
