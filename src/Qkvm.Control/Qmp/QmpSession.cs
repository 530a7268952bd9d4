using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Qkvm.Control.Commands;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Qmp;

/// <summary>A client that speaks QMP on a character backend. Commands run one after another in the order they came,
/// those sent as exec-oob at once; events come in between.</summary>
/// <remarks>Main loop, under the machine lock. A client that does not read its answers gets no more of them: its input
/// waits, and the events that no longer fit are lost to it.</remarks>
public sealed class QmpSession : ICharFrontend, IDisposable
{
    const int MostRequests = 8, Chunk = 4096, MostPending = 1 << 20;

    readonly ICharBackend _backend;
    readonly CommandContext _context;
    readonly JsonStream _input;
    readonly Queue<JsonDocument> _requests = new();
    readonly QmpWriter _writer;
    readonly Queue<ReadOnlyMemory<byte>> _output = new();
    readonly EventThrottle _throttle;
    readonly HttpGuard _guard = new();
    int _pending, _generation;
    bool _busy, _isOver;

    public QmpSession(ICharBackend backend, CommandContext context, bool pretty)
    {
        (_backend, _context, _writer) = (backend, context, new QmpWriter(pretty));
        _input = new JsonStream(Accept, Refuse);
        _throttle = new EventThrottle(Tell, context.Machine.Board.Post, TimeProvider.System);
        context.Machine.Events.Raised += _throttle.Raise;
        backend.Connect(this);
    }

    /// <summary>Nothing more is taken. A client that asks for this itself still gets the answer.</summary>
    public void Dispose()
    {
        _context.Machine.Events.Raised -= _throttle.Raise;
        _throttle.Dispose();
        _isOver = true;
        if (_busy) _generation++;                                  // what answers later would answer the next monitor
        Forget();
    }

    int ICharFrontend.Room => _isOver || _pending > 0 || _requests.Count >= MostRequests ? 0 : Chunk;

    void ICharFrontend.Receive(ReadOnlySpan<byte> data)
    {
        if (_guard.Look(data)) _backend.HangUp();
        if (!_guard.Refuses && !_isOver) _input.Feed(data);
    }

    void ICharFrontend.Writable() => Drain();

    void ICharFrontend.Event(CharEvent what)
    {
        if (what is not (CharEvent.Opened or CharEvent.Closed)) return;
        _generation++;                                             // answers to who has gone go nowhere
        _input.Reset();
        _guard.Reset();
        Forget();
        (_context.IsNegotiated, _context.AllowsOutOfBand, _busy) = (false, false, false);
        if (what == CharEvent.Opened) Answer(Greet);
    }

    void Forget()
    {
        _output.Clear();
        _pending = 0;
        while (_requests.TryDequeue(out JsonDocument? request)) request.Dispose();
    }

    /// <summary>By hand: clients wait for it, and the serializer's own start takes longer than all of this.</summary>
    static void Greet(Utf8JsonWriter w)
    {
        (VersionTriple qemu, string package) = QueryVersion.Info;
        w.WriteStartObject();
        w.WriteStartObject("QMP");
        w.WriteStartObject("version");
        w.WriteStartObject("qemu");
        w.WriteNumber("major", qemu.Major);
        w.WriteNumber("minor", qemu.Minor);
        w.WriteNumber("micro", qemu.Micro);
        w.WriteEndObject();
        w.WriteString("package", package);
        w.WriteEndObject();
        w.WriteStartArray("capabilities");
        w.WriteStringValue("oob");
        w.WriteEndArray();
        w.WriteEndObject();
        w.WriteEndObject();
    }

    // Requests

    void Refuse(string error)
    {
        if (!_isOver) Answer(w => QmpWriter.Error(w, default, new CommandException(error)));
    }

    void Accept(JsonDocument request)
    {
        if (_isOver) { request.Dispose(); return; }
        JsonElement root = request.RootElement;
        if (_context.AllowsOutOfBand && root.ValueKind == JsonValueKind.Object
            && root.TryGetProperty("exec-oob", out _)) RunAtOnce(request);
        else
        {
            _requests.Enqueue(request);
            Pump();
        }
    }

    void Pump()
    {
        while (!_busy && _requests.TryDequeue(out JsonDocument? request))
        {
            ValueTask running = RunAsync(request, outOfBand: false);
            if (running.IsCompleted) running.GetAwaiter().GetResult();
            else Finish(running);
        }
    }

    /// <summary>A command that answers later: those behind it wait. A fault of ours ends the program, as
    /// anywhere.</summary>
    async void Finish(ValueTask running)
    {
        int generation = _generation;
        _busy = true;
        await running.ConfigureAwait(false);
        if (generation != _generation) return;
        _busy = false;
        Pump();
        _backend.AcceptInput();
    }

    async void RunAtOnce(JsonDocument request) => await RunAsync(request, outOfBand: true).ConfigureAwait(false);

    async ValueTask RunAsync(JsonDocument request, bool outOfBand)
    {
        using JsonDocument held = request;
        int generation = _generation;
        JsonElement id = default;
        CommandException? error = null;
        var result = new ArrayBufferWriter<byte>();
        if (_context.Log is { Events.QmpCommand: { Enabled: true } handled } log)
            log.Write($"{handled.Name} mon 0x{RuntimeHelpers.GetHashCode(this):x} req: {request.RootElement}\n");
        try
        {
            QmpRequest parsed = QmpRequest.Parse(request.RootElement, _context.AllowsOutOfBand, out id);
            Command command = Find(parsed.Name);
            if (outOfBand && !command.AllowsOutOfBand)
                throw new CommandException($"The command {parsed.Name} does not support OOB");
            using var writer = new Utf8JsonWriter(result, QmpWriter.Compact);
            await command.RunAsync(_context, parsed.Arguments, writer).ConfigureAwait(false);
            writer.Flush();
        }
        catch (Exception e) when (Command.ErrorOf(e) is { } known) { error = known; }
        if (generation != _generation) return;
        if (error != null) Answer(w => QmpWriter.Error(w, id, error));
        else Answer(w => QmpWriter.Return(w, id, result.WrittenSpan));
    }

    Command Find(string name)
    {
        bool negotiates = name == NegotiateCapabilities.Name;
        if (!_context.IsNegotiated && !negotiates)
            throw new CommandException($"Expecting capabilities negotiation with '{NegotiateCapabilities.Name}'",
                ErrorClass.CommandNotFound);
        if (_context.IsNegotiated && negotiates)
            throw new CommandException("Capabilities negotiation is already complete, command ignored",
                ErrorClass.CommandNotFound);
        return _context.Catalogue.Find(name)
            ?? throw new CommandException($"The command {name} has not been found", ErrorClass.CommandNotFound);
    }

    // Answers

    void Tell(MachineEvent happened)
    {
        if (!_context.IsNegotiated || !_backend.IsOpen || _pending > MostPending) return;
        MachineEvent named = BlockDrive.Named(_context, happened);
        Answer(w => QmpWriter.Event(w, named, _context.Catalogue.Json, DateTimeOffset.UtcNow));
    }

    void Answer(Action<Utf8JsonWriter> write) => Send(_writer.Line(write));

    void Send(ReadOnlyMemory<byte> line)
    {
        int done = _pending > 0 ? 0 : _backend.Write(line.Span);
        if (done == line.Length) return;
        _output.Enqueue(line[done..].ToArray());
        _pending += line.Length - done;
    }

    void Drain()
    {
        while (_output.TryPeek(out ReadOnlyMemory<byte> line))
        {
            int done = _backend.Write(line.Span);
            _pending -= done;
            if (done < line.Length)
            {
                ReadOnlyMemory<byte>[] rest = [line[done..], .. _output.Skip(1)];
                _output.Clear();
                foreach (ReadOnlyMemory<byte> one in rest) _output.Enqueue(one);
                return;
            }
            _output.Dequeue();
        }
        _backend.AcceptInput();
    }
}
