using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Gdb;

/// <summary>A machine under GDB's remote protocol on a character backend. GDB manual, appendix E; where it leaves a
/// choice, as QEMU 7.2 has it: the machine stops when a debugger comes and goes on when it detaches, and stays as it
/// is when the connection breaks.</summary>
/// <remarks>Main loop, under the machine lock. One packet is answered before the next is read. Partial, by subject:
/// queries, registers and memory, running, points.</remarks>
public sealed partial class GdbSession : ICharFrontend, IDisposable
{
    const int InputRoom = 4096;

    readonly ICharBackend _backend;
    readonly CommandContext _context;
    readonly IMachine _machine;
    readonly PacketReader _reader = new();
    readonly GdbOutput _output;
    readonly Queue<byte> _typedAhead = new();                      // while a monitor command has not answered
    bool _isOpen, _isBusy, _isOver;
    bool _hasHeard, _isRefused;                                    // something; what is no debugger's
    bool _multiprocess, _tellsSoftware, _tellsHardware, _isPhysical;
    int _connection;                                               // counts them

    /// <param name="context">Of its own: what `monitor` commands work with.</param>
    public GdbSession(ICharBackend backend, CommandContext context)
    {
        (_backend, _context, _machine, _output) = (backend, context, context.Machine, new GdbOutput(backend));
        _looksAt = _steps = _machine.Cpus[0];
        _machine.DebugStopped += OnDebugStopped;
        _machine.Events.Raised += OnEvent;
        backend.Connect(this);
    }

    int ICharFrontend.Room => _isBusy || _output.IsPending ? 0 : InputRoom;

    void ICharFrontend.Receive(ReadOnlySpan<byte> data)
    {
        foreach (byte b in data) _typedAhead.Enqueue(b);
        TakeTyped();
    }

    void ICharFrontend.Writable()
    {
        _output.Flush();
        if (_output.IsPending) return;
        TakeTyped();
        _backend.AcceptInput();
    }

    void ICharFrontend.Event(CharEvent what)
    {
        if (what == CharEvent.Opened) Attach();
        else if (what == CharEvent.Closed) Lose();
    }

    void Attach()
    {
        (_isOpen, _multiprocess, _tellsSoftware, _tellsHardware, _isPhysical) = (true, false, false, false, false);
        _sstep = SstepAll;
        _looksAt = _steps = _machine.Cpus[0];
        _awaitsStop = false;
        _machine.Pause();
        (_signal, _stop) = (GdbProtocol.SignalTrap, default);
    }

    /// <summary>The debugger has gone without a word: its points go with it, and a machine that ran runs on.</summary>
    void Lose()
    {
        _isOpen = _awaitsStop = _isBusy = _hasHeard = _isRefused = false;
        _connection++;
        _reader.Reset();
        _output.Reset();
        _typedAhead.Clear();
        bool runs = _machine.State == RunState.Running && (_points.Count > 0 || _runsInPart);
        if (runs) _machine.Pause();
        RemovePoints();
        if (runs) _machine.Resume();
    }

    void TakeTyped()
    {
        while (!_isBusy && !_output.IsPending && _typedAhead.TryDequeue(out byte b))
        {
            if (IsNoDebugger(b)) { _typedAhead.Clear(); return; }
            switch (_reader.Take(b))
            {
                case GdbInput.Packet:
                    if (_reader.ChecksSums) _output.Acknowledge(true);
                    Handle(_reader.Packet);
                    break;
                case GdbInput.TooLong:
                    if (_reader.ChecksSums) _output.Acknowledge(true);
                    Reply(GdbProtocol.Invalid);
                    break;
                case GdbInput.Damaged: _output.Acknowledge(false); break;
                case GdbInput.NotAcknowledged when _reader.ChecksSums: _output.Again(); break;
                case GdbInput.Interrupt: Interrupt(); break;
            }
        }
    }

    /// <summary>A page in a browser can POST to a port on this machine: who begins with a letter, as HTTP does and no
    /// packet, is not listened to.</summary>
    bool IsNoDebugger(byte b)
    {
        if (!_hasHeard) _isRefused = char.IsAsciiLetter((char)b);
        _hasHeard = true;
        return _isRefused;
    }

    void Handle(ReadOnlySpan<byte> packet)
    {
        if (_machine.State == RunState.Running) Interrupt();       // nothing can be said of what moves
        char kind = packet.Length == 0 ? '\0' : (char)packet[0];
        if (kind == 'X') { WriteBinary(packet[1..]); return; }
        string text = Encoding.Latin1.GetString(packet), rest = text.Length == 0 ? "" : text[1..];
        switch (kind)
        {
            case '?': Reply(StopReply()); break;
            case '!': Reply(GdbProtocol.Ok); break;
            case 'g': ReadRegisters(); break;
            case 'G': WriteRegisters(rest); break;
            case 'p': ReadRegister(rest); break;
            case 'P': WriteRegister(rest); break;
            case 'm': ReadMemory(rest); break;
            case 'M': WriteMemory(rest); break;
            case 'Z': SetPoint(rest, true); break;
            case 'z': SetPoint(rest, false); break;
            case 'H': ChooseThread(rest); break;
            case 'T': AskThread(rest); break;
            case 'c' or 's': Continue(rest, kind == 's'); break;
            case 'C' or 'S': ContinueWithSignal(rest, kind == 'S'); break;
            case 'D': Detach(); break;
            case 'k': Kill(); break;
            case 'q' or 'Q': Query(text); break;
            case 'v': HandleVerbose(text); break;
            default: Reply(GdbProtocol.NotKnown); break;
        }
    }

    void HandleVerbose(string text)
    {
        const string vCont = "vCont", vAttach = "vAttach;", vKill = "vKill;";
        if (text == "vCont?") Reply("vCont;c;C;s;S");
        else if (text.StartsWith(vCont, StringComparison.Ordinal)) ContinueThreads(text[vCont.Length..]);
        else if (text.StartsWith(vAttach, StringComparison.Ordinal)) Reply(StopReply());
        else if (text.StartsWith(vKill, StringComparison.Ordinal))
        {
            Reply(GdbProtocol.Ok);
            Kill();
        }
        else Reply(GdbProtocol.NotKnown);
    }

    void Reply(string data)
    {
        if (!_isOver) _output.Packet(data);
    }

    /// <summary>The program ends: packet W.</summary>
    public void TellExit(int code)
    {
        if (_isOpen) Reply($"W{(byte)code:x2}");
    }

    /// <summary>The machine goes on without a debugger, as when the connection breaks. It may have asked for this
    /// itself, by a monitor command.</summary>
    public void Close()
    {
        if (_isOpen) Lose();
        Dispose();
    }

    /// <summary>With the machine.</summary>
    public void Dispose()
    {
        _machine.DebugStopped -= OnDebugStopped;
        _machine.Events.Raised -= OnEvent;
        _isOver = true;
        _backend.Connect(null);
    }
}
