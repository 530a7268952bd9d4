using System.Text;
using Qkvm.Core.Char;

namespace Qkvm.Control.Hmp;

/// <summary>The human monitor on a character backend.</summary>
/// <param name="version">The program's version, for the banner.</param>
public sealed class HmpMonitor : ICharFrontend, IMonitor, IDisposable
{
    const string Prompt = "(qemu) ";                               // scripts look for it

    readonly ICharBackend _backend;
    readonly LineEditor _editor;
    readonly string _version;
    readonly HttpGuard _guard = new();
    readonly Queue<byte[]> _pending = new();
    readonly Queue<byte> _typedAhead = new();
    readonly bool _muxed;
    bool _greeted, _busy, _isOver;

    public HmpMonitor(ICharBackend backend, CommandContext context, string version, bool muxed)
    {
        (_backend, Context, _version, _muxed) = (backend, context, version, muxed);
        _editor = new LineEditor(Prompt, Write, head => CommandLine.Complete(context, head));
        backend.Connect(this);
    }

    public CommandContext Context { get; }
    public IReadOnlyList<string> History => _editor.History;

    /// <summary>While a command has not answered yet, or the client has not read the answer, what is typed
    /// waits.</summary>
    int ICharFrontend.Room => IsAnswering ? 0 : 256;

    bool IsAnswering => _isOver || _busy || _pending.Count > 0;

    /// <summary>Nothing more is taken, nor told: the next monitor has the client.</summary>
    public void Dispose()
    {
        _isOver = true;
        _pending.Clear();
        _typedAhead.Clear();
    }

    public void Write(string text)
    {
        if (_isOver) return;
        byte[] data =
            Encoding.UTF8.GetBytes(text.Replace("\r\n", "\n", StringComparison.Ordinal)
            .Replace("\n", "\r\n", StringComparison.Ordinal));
        int done = _pending.Count > 0 ? 0 : _backend.Write(data);
        if (done < data.Length && _pending.Count < 1024) _pending.Enqueue(data[done..]);
    }

    void ICharFrontend.Writable()
    {
        while (_pending.TryPeek(out byte[]? data))
        {
            int done = _backend.Write(data);
            _pending.Dequeue();
            if (done == data.Length) continue;
            byte[][] rest = [data[done..], .. _pending];
            _pending.Clear();
            foreach (byte[] piece in rest) _pending.Enqueue(piece);
            return;
        }
        TakeTyped();
        _backend.AcceptInput();
    }

    void ICharFrontend.Event(CharEvent what)
    {
        switch (what)
        {
            case CharEvent.Opened when !_muxed: Greet(); break;
            case CharEvent.MuxIn:
                if (_greeted) _editor.ShowPrompt();
                else Greet();
                break;
            case CharEvent.MuxOut: Write("\r\n"); break;
            case CharEvent.Closed:
                _pending.Clear();
                _typedAhead.Clear();
                _guard.Reset();
                break;
        }
    }

    void ICharFrontend.Receive(ReadOnlySpan<byte> data)
    {
        if (_guard.Look(data)) _backend.HangUp();
        if (_guard.Refuses || _isOver) return;
        foreach (byte b in data) _typedAhead.Enqueue(b);
        TakeTyped();
    }

    void TakeTyped()
    {
        while (!IsAnswering && _typedAhead.TryDequeue(out byte b))
        {
            if (_editor.Take(b) is not { } line) continue;
            ValueTask command = CommandLine.ExecuteAsync(this, line);
            if (!command.IsCompleted) { Finish(command); continue; }
            command.GetAwaiter().GetResult();
            _editor.ShowPrompt();
        }
    }

    /// <summary>A command that answers later: its prompt follows the answer. A fault of ours ends the program, as
    /// anywhere.</summary>
    async void Finish(ValueTask command)
    {
        _busy = true;
        await command.ConfigureAwait(false);
        _busy = false;
        _editor.ShowPrompt();
        TakeTyped();
        _backend.AcceptInput();
    }

    void Greet()
    {
        _greeted = true;
        Write($"qkvm {_version} monitor - type 'help' for more information\r\n");
        _editor.ShowPrompt();
    }
}
