using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Devices;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Nbd;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Nbd;

namespace Qkvm.Storage.Tests;

/// <summary>A server with its loop, and clients of it, at a socket in a scratch directory.</summary>
sealed class NbdBench : IDisposable
{
    static readonly Catalogue<BlockDriverModel> s_drivers = new("block driver",
        [RawDriver.Model, Qcow2Driver.Model, FileDriver.Model, NbdDriver.Model]);

    readonly EventLoop _loop = new();
    readonly Thread _thread;

    public NbdBench(NbdServerOptions? options = null)
    {
        _thread = new Thread(_loop.Run);
        _thread.Start();
        Server = OnLoop(() => new NbdServer(new UnixAddress(Socket), _loop, options ?? new NbdServerOptions()));
        OnLoop(() =>
        {
            Server.Start();
            return true;
        });
    }

    public Scratch Scratch { get; } = new();
    public NbdServer Server { get; }
    public string Socket => Scratch["nbd.sock"];
    public string Uri => $"nbd+unix:///?socket={Socket}";

    public static BlockFactory Factory() => new(s_drivers, _ => { });

    /// <summary>Serves an image under the empty name.</summary>
    public NbdExport Serve(string file, string format = "raw", bool isWritable = true, bool showsDepth = false,
        params string[] bitmaps)
    {
        BlockDriver node = Factory().OpenImage(Scratch[file],
            new ImageOpening(format) { IsWritable = isWritable });
        IReadOnlyList<IBitmap> found = NbdBitmaps.Find(node,
            bitmaps.Select(static name => new BitmapName(null, name)), isWritable);
        var export = new NbdExport("", node, isWritable)
        {
            Description = "a test", ShowsDepth = showsDepth, Bitmaps = found,
        };
        Assert.True(Server.Add(export));
        return export;
    }

    public BlockDriver Client(string options = "") => Client(Socket, options);

    public static BlockDriver Client(string socket, string options) => Factory().AddNode(Options.Parse(
        $"nbd,node-name=n,server.type=unix,server.path={socket}{options}", "-blockdev nbd", "driver"));

    /// <summary>A client that says what it likes.</summary>
    public BlockingSocket Raw() => new(Connector.Connect(new UnixAddress(Socket)))
    {
        Deadline = Environment.TickCount64 + 20_000,
    };

    public void Dispose()
    {
        OnLoop(() =>
        {
            Server.Dispose();
            return true;
        });
        foreach (NbdExport export in Server.Exports) export.CloseAsync().AsTask().Wait();
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
        Scratch.Dispose();
    }

    T OnLoop<T>(Func<T> work)
    {
        var done = new TaskCompletionSource<T>();
        _loop.Post(() =>
        {
            try { done.SetResult(work()); }
            catch (Exception e) { done.SetException(e); }
        });
        return done.Task.Result;
    }
}
