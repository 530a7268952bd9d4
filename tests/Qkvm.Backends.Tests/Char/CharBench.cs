using System.Net.Sockets;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Char;

/// <summary>A socket backend that gives back what it gets, on the real event loop.</summary>
public sealed class CharBench : IDisposable
{
    readonly MachineLock _lock = new();
    readonly EventLoop _loop;
    readonly Thread _thread;
    readonly List<IDisposable> _opened = [];

    public CharBench()
    {
        _loop = new EventLoop(_lock.Run);
        _thread = new Thread(_loop.Run);
        _thread.Start();
    }

    public Echo Frontend { get; } = new();
    public ICharBackend? Backend { get; private set; }
    public string Path { get; } = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"qkvm-{Guid.NewGuid():N}.sock");

    /// <summary>-chardev MODEL,id=c,OPTIONS, with a frontend.</summary>
    /// <param name="objects">What it may name, by id.</param>
    public ICharBackend Open(CharModel model, string options, params (string Id, object Made)[] objects) =>
        Open(loop =>
        {
            var host = new FakeHost(loop);
            foreach ((string id, object made) in objects) host.Backends.Objects[id] = made;
            return model.Create(new Properties(model, Options.Parse($"id=c,{options}", $"-chardev {model.Name}")),
                host);
        });

    public ICharBackend Open(Func<EventLoop, ICharBackend> make)
    {
        using (_lock.Hold())
        {
            ICharBackend backend = make(_loop);
            _opened.Add((IDisposable)backend);
            Frontend.Attach(backend);
            Backend = backend;
            return backend;
        }
    }

    public void Locked(Action action) => _lock.Run(action);

    /// <summary>A client of the server at <see cref="Path"/>.</summary>
    public Socket Client()
    {
        var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        client.ReceiveTimeout = 30_000;
        client.Connect(new UnixDomainSocketEndPoint(Path));
        return client;
    }

    /// <summary>That many bytes, or fewer at the end.</summary>
    public static byte[] Receive(Socket client, int count)
    {
        var data = new byte[count];
        int have = 0;
        for (int n = 1; have < count && n > 0; have += n)
            n = client.Receive(data, have, count - have, SocketFlags.None);
        return data[..have];
    }

    public void Dispose()
    {
        _lock.Run(() => { foreach (IDisposable one in _opened) one.Dispose(); });
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
    }

    public sealed class Echo : ICharFrontend
    {
        ICharBackend? _backend;
        readonly List<byte> _waiting = [];

        public List<CharEvent> Events { get; } = [];
        public int Room => _waiting.Count == 0 ? 64 : 0;

        public void Attach(ICharBackend backend)
        {
            _backend = backend;
            backend.Connect(this);
        }

        public void Event(CharEvent what) => Events.Add(what);

        public void Receive(ReadOnlySpan<byte> data)
        {
            _waiting.AddRange(data);
            Writable();
        }

        public void Writable()
        {
            _waiting.RemoveRange(0, _backend!.Write(_waiting.ToArray()));
            if (_waiting.Count == 0) _backend.AcceptInput();
        }
    }
}
