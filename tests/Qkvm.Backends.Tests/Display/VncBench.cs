using System.Collections.Concurrent;
using System.Net.Sockets;
using Qkvm.Backends.Display;
using Qkvm.Core.Display;
using Qkvm.Core.Input;
using Qkvm.Core.Machine;
using Qkvm.Core.Time;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Display;

/// <summary>A server on a UNIX socket with its main loop, a screen that tests paint, and ears for keys and
/// pointer.</summary>
sealed class VncBench : IDisplaySource, IKeyboardSink, IPointerSink, IDisposable
{
    // no assertion: the end of a test that would never end
    public static readonly TimeSpan Hang = TimeSpan.FromSeconds(30);

    readonly MachineLock _lock = new();
    readonly Thread _thread;
    readonly FrameBuffer _screen = new();

    public VncBench(int width = 70, int height = 37, string share = "allow-exclusive", bool absolute = true,
        TimeSpan? handshakeLimit = null, bool lockKeySync = true, IVirtualClock? clock = null,
        string? address = null, Action<MachineBackends>? setUp = null, params OptionPair[] options)
    {
        setUp?.Invoke(Backends);
        Input = new InputRouter(clock);
        IsAbsolute = absolute;
        Loop = new EventLoop(_lock.Run);
        Path = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"vnc-{Guid.NewGuid():N}");
        _screen.Resize(width, height);
        using (_lock.Hold())
        {
            Input.Add((IKeyboardSink)this);
            Input.Add((IPointerSink)this);
            Options given = Options.Of("-vnc", [.. Address(address ?? $"unix:{Path}"), new("share", share),
                new("lock-key-sync", lockKeySync ? "on" : "off"), .. options]);
            Server = VncServer.Create(new Properties(VncServer.Model, given),
                new DisplayParts(this, Input, Loop, "a name", _ => { })
                {
                    Backends = Backends, Raise = Events.Add,
                    Power = new(() => Buttons.Add("power"), () => Buttons.Add("reset")),
                }, handshakeLimit);
        }
        _thread = new Thread(Loop.Run) { IsBackground = true };
        _thread.Start();
    }

    public MachineBackends Backends { get; } = new();
    public BlockingCollection<string> Buttons { get; } = [];
    public BlockingCollection<MachineEvent> Events { get; } = [];
    public EventLoop Loop { get; }
    public string Path { get; }
    public InputRouter Input { get; }
    public VncServer Server { get; }
    public bool IsAbsolute { get; }
    public int Paints { get; private set; }
    public BlockingCollection<(KeyCode Key, bool Down)> Keys { get; } = [];
    public BlockingCollection<(int X, int Y, int Wheel, MouseButtons Buttons)> Moves { get; } = [];

    public void Paint(FrameBuffer target)
    {
        Paints++;
        target.Resize(_screen.Width, _screen.Height);
        _screen.Pixels.CopyTo(target.Pixels);
        if (Cursor != null) target.Row(0)[0] = PaintedPointer;
    }

    /// <summary>The pixel that stands for a pointer that the card has painted.</summary>
    public const uint PaintedPointer = 0xABCDEF;

    public CursorShape? Cursor { get; set; }

    void IDisplaySource.PaintBare(FrameBuffer target)
    {
        target.Resize(_screen.Width, _screen.Height);
        _screen.Pixels.CopyTo(target.Pixels);
    }

    public void Key(KeyCode key, bool down) => Keys.Add((key, down));
    public bool HasRoom => true;
    public KeyboardLocks Lights { get; private set; }
    public event Action? Changed;

    /// <summary>The guest sets its keyboard's lights.</summary>
    public void Light(KeyboardLocks lights) => _lock.Run(() =>
    {
        Lights = lights;
        Changed?.Invoke();
    });

    public void Pointer(int x, int y, int wheel, MouseButtons buttons) => Moves.Add((x, y, wheel, buttons));

    public (KeyCode, bool) NextKey() => Keys.TryTake(out var key, Hang) ? key
        : throw new TimeoutException("no key came");
    public (int, int, int, MouseButtons) NextMove() => Moves.TryTake(out var move, Hang) ? move
        : throw new TimeoutException("no move came");

    public void Draw(Action<FrameBuffer> draw) => _lock.Run(() => draw(_screen));

    /// <summary>Runs under the machine lock.</summary>
    public T Ask<T>(Func<T> question)
    {
        using (_lock.Hold()) return question();
    }

    /// <summary>Plain areas, text in two colours, a gradient and noise.</summary>
    public void DrawEverything(int seed = 1) => Draw(screen =>
    {
        var random = new Random(seed);
        for (int y = 0; y < screen.Height; y++)
            for (int x = 0; x < screen.Width; x++)
                screen.Row(y)[x] = (x / 20 % 4) switch
                {
                    0 => 0x336699,
                    1 => ((x * 7 + y * 3) % 5 == 0) ? 0xFFFFFFu : 0,
                    2 => (uint)(x * 3 << 16 | y * 5 << 8 | 128) & 0xFFFFFF,
                    _ => (uint)random.Next(1 << 24),
                };
    });

    public uint[] Screen() => Ask(() => _screen.Pixels.ToArray());

    public VncViewer Connect() => new(Path);

    public VncViewer ConnectAndStart(bool shared = true, params int[] encodings)
    {
        VncViewer viewer = Connect();
        viewer.Handshake(8, shared);
        if (encodings.Length > 0) viewer.SetEncodings(encodings);
        return viewer;
    }

    /// <summary>As -vnc writes it.</summary>
    static IEnumerable<OptionPair> Address(string text)
    {
        string[] words = text.Split(",to=");
        yield return new OptionPair("vnc", words[0]);
        if (words.Length > 1) yield return new OptionPair("to", words[1]);
    }

    public MachineEvent NextEvent() => Events.TryTake(out MachineEvent? happened, Hang) ? happened
        : throw new TimeoutException("no event came");

    /// <summary>The screen can have what a viewer asks for.</summary>
    public bool CanResize { get; init; }

    public bool RequestSize(int width, int height)
    {
        if (CanResize) _screen.Resize(width, height);
        return CanResize;
    }

    public void Dispose()
    {
        Loop.Stop();
        _thread.Join();
        using (_lock.Hold()) Server.Dispose();
        Loop.Dispose();
    }
}
