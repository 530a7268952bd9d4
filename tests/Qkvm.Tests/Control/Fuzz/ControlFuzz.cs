using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Qkvm.Backends.Char;
using Qkvm.Control;
using Qkvm.Control.Gdb;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qmp;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control.Fuzz;

/// <summary>Clients of all kinds that send mistakes to one machine at the same time. Nothing may throw, the main loop
/// must go on, what they hear must be whole, and memory bounded.</summary>
sealed class ControlFuzz : IDisposable
{
    const int Batch = 400, MostMemory = 1 << 30;

    readonly Random _random;
    readonly ControlBench _bench = new();
    readonly string _scratch = Directory.CreateTempSubdirectory("qkvm-fuzz-").FullName;
    readonly FuzzInput _input;
    readonly FuzzClient[] _clients;                                // QMP, human, telnet, gdb
    readonly Telnet _telnet = new();
    readonly List<IDisposable> _sessions = [];
    string _last = "";                                             // message, for a report
    int _lastKind;
    volatile ShutdownEvent? _ended;                                // a client may say quit, in many ways

    ControlFuzz(int seed)
    {
        _random = new Random(seed);
        _input = new FuzzInput(_random, _bench.Query("query-qmp-schema"), _scratch);
        _bench.Human("chardev-add ringbuf,id=c0");                 // for monitors and others that come and go
        _clients = [.. Enumerable.Range(0, 4).Select(_ => new FuzzClient(_random))];
        _bench.OnLoop(() =>
        {
            _bench.Machine.Events.Raised += raised => _ended ??= raised as ShutdownEvent;
            _sessions.Add(new QmpSession(_clients[0], Context(), pretty: _random.Next(4) == 0));
            for (int i = 1; i < 3; i++) _ = new HmpMonitor(_clients[i], Context(), "0", muxed: false);
            _sessions.Add(new GdbSession(_clients[3], Context()));
        });
    }

    CommandContext Context() => new(_bench.Machine, _bench.Host, CommandCatalogue.Standard);

    /// <summary>Until the time is over, or once; each batch has a machine and a seed of its own.</summary>
    public static void Run(int seed, TimeSpan time, Action<string> print)
    {
        var clock = Stopwatch.StartNew();
        TimeSpan told = TimeSpan.Zero;
        long messages = 0, heard = 0;
        do
        {
            if (time > TimeSpan.Zero && clock.Elapsed - told > TimeSpan.FromSeconds(10))
            {
                told = clock.Elapsed;
                print($"seed {seed} after {messages} messages");
            }
            using var fuzz = new ControlFuzz(seed);
            try
            {
                heard += fuzz.RunBatch(seed, print);
                messages += Batch;
            }
            catch (Exception e)
            {
                print($"seed {seed}, client {fuzz._lastKind}, {JsonSerializer.Serialize(fuzz._last)}: {e}");
                throw;
            }
            seed++;
        }
        while (clock.Elapsed < time);
        print($"{messages} messages, {heard} bytes of answers, last seed {seed - 1}: nothing amiss");
    }

    public void Dispose()
    {
        if (_ended == null)
            _bench.OnLoop(() =>
            {
                foreach (FuzzClient client in _clients) client.Close();
                foreach (IDisposable session in _sessions) session.Dispose();
            });
        _bench.Dispose();
        using (_bench.Environment.Lock.Hold()) ((BackendHost)_bench.Host).Close();
        Directory.Delete(_scratch, recursive: true);
    }

    long RunBatch(int seed, Action<string> print)
    {
        for (int i = 0; i < Batch; i++)
        {
            int kind = _random.Next(_clients.Length);
            byte[] message = kind switch
            {
                0 => _input.Qmp(),
                1 => _input.Human(),
                2 => _input.Telnet(),
                _ => _input.Gdb(),
            };
            (_last, _lastKind) = (Encoding.Latin1.GetString(message), kind);
            if (OnLoop(() => Act(_clients[kind], kind, message))) continue;
            print($"seed {seed}: message {i}, {JsonSerializer.Serialize(_last)}, ended the machine: {_ended}");
            return 0;
        }
        WebSocketFuzz.Run(_random, _input);
        if (!OnLoop(CheckThatAllAnswer)) return 0;
        long memory = GC.GetTotalMemory(forceFullCollection: true);
        Assert.True(memory < MostMemory, $"{memory} bytes are kept");
        return _clients.Sum(client => client.Written);
    }

    /// <returns>False: the machine has ended, and its loop with it.</returns>
    bool OnLoop(Action action)
    {
        var done = Task.Run(() => _bench.OnLoop(action));
        while (!done.Wait(TimeSpan.FromMilliseconds(20)))
            if (_ended != null && !done.Wait(TimeSpan.FromSeconds(1))) return false;
        return _ended == null;
    }

    void Act(FuzzClient client, int kind, byte[] message)
    {
        switch (_random.Next(40))
        {
            case 0: client.Close(); break;
            case 1: client.Stalls = true; break;
            case 2 or 3 or 4: client.Read(); break;
        }
        if (!client.IsOpen)
        {
            client.Open();
            if (kind == 0) client.Send("{\"execute\": \"qmp_capabilities\"}"u8);
            if (kind == 2) _telnet.Reset();
        }
        if (kind == 2) message = message[.._telnet.Filter(message, out _)];
        client.Send(message);
        if (kind == 0 && !client.Stalls) CheckQmp(client.TakeHeard());
        else if (kind == 3 && !client.Stalls) CheckGdb(client.TakeHeard());
    }

    /// <summary>Whole lines of JSON; a line under way when the client began to stall has lost its head.</summary>
    static void CheckQmp(string heard)
    {
        foreach (string line in heard.Split("\r\n"))
            if (line.StartsWith("{\"", StringComparison.Ordinal) && line.EndsWith('}')) JsonDocument.Parse(line);
    }

    static void CheckGdb(string heard)
    {
        foreach (char c in heard) Assert.True(c < 256, "gdb hears bytes");
    }

    /// <summary>New clients get what they ask for, whatever the others did.</summary>
    void CheckThatAllAnswer()
    {
        foreach (FuzzClient client in _clients)
        {
            client.Close();
            client.Open();
        }
        _clients[0].Send(Encoding.ASCII.GetBytes("{\"execute\": \"qmp_capabilities\", \"id\": 1}\n"));
        Assert.Contains("\"id\": 1", _clients[0].TakeHeard());
        foreach (FuzzClient human in _clients[1..3])
        {
            human.TakeHeard();
            human.Send("\u0005\u0015\r"u8);
            human.Send("\rprint 40+2\r"u8);
            Assert.Contains("42", human.TakeHeard());
        }
        _clients[3].Send("$qC#b4"u8);
        Assert.Contains("$QC", _clients[3].TakeHeard());
    }
}

public sealed class ControlFuzzTests
{
    [Fact]
    public void Random_clients_break_nothing() => ControlFuzz.Run(1, TimeSpan.Zero, static _ => { });
}
