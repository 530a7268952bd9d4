using System.Collections.Concurrent;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Net;

/// <summary>A loop of its own.</summary>
sealed class TestLoop : IDisposable
{
    static readonly TimeSpan s_hang = TimeSpan.FromSeconds(30);    // the end of a test that would never end

    readonly Thread _thread;

    public TestLoop()
    {
        _thread = new Thread(Loop.Run) { IsBackground = true };
        _thread.Start();
    }

    public EventLoop Loop { get; } = new();

    /// <summary>Does it on the loop, where backends are made, opened and closed.</summary>
    public T Do<T>(Func<T> work)
    {
        var done = new TaskCompletionSource<T>();
        Loop.Post(() =>
        {
            try { done.SetResult(work()); }
            catch (Exception e) { done.SetException(e); }
        });
        if (!((Task)done.Task).ContinueWith(static _ => { }).Wait(s_hang)) throw new TimeoutException();
        return done.Task.GetAwaiter().GetResult();
    }

    public void Do(Action work) => Do(() => { work(); return 0; });

    /// <summary>Until it is so.</summary>
    public void Await(Func<bool> isSo)
    {
        DateTime end = DateTime.UtcNow + s_hang;
        while (!Do(isSo))
        {
            if (DateTime.UtcNow > end) throw new TimeoutException();
            Thread.Sleep(5);
        }
    }

    public void Dispose()
    {
        Do(static () => { });
        Loop.Stop();
        _thread.Join();
        Loop.Dispose();
    }
}

/// <summary>A card that keeps what comes, and sends what the test says.</summary>
sealed class TestCard : INetPort
{
    static readonly TimeSpan s_hang = TimeSpan.FromSeconds(30);    // as above

    readonly BlockingCollection<byte[]> _frames = [];

    public TestCard(NetBackend backend, TestLoop loop) => Queue = loop.Do(() => backend.Open(0, this, loop.Loop));

    public INetQueue Queue { get; }

    /// <summary>It has no room.</summary>
    public volatile bool Refuses;

    /// <summary>A frame of that many bytes, which begin with the number.</summary>
    public static byte[] Frame(byte number, int length = 100)
    {
        var frame = new byte[length];
        for (int i = 0; i < length; i++) frame[i] = (byte)(number + i);
        return frame;
    }

    public void Send(byte[] frame, NetHeader header = default) => Queue.Send(header, new ScatterList(frame));

    public byte[] Next() => _frames.TryTake(out byte[]? frame, s_hang) ? frame : throw new TimeoutException();

    public int Waiting => _frames.Count;

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (Refuses) return false;
        _frames.Add(frame.ToArray());
        return true;
    }
}
