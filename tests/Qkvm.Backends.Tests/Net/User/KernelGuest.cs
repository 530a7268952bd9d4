using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Text;
using Qkvm.Backends.Net.User;
using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Net.User;

/// <summary>This machine's own kernel as the guest: a tap interface in a network namespace is its card, whose other end
/// is a user network in ours.</summary>
/// <remarks>SAFETY: buffers are pinned or on the stack for the time of a call.</remarks>
sealed unsafe partial class KernelGuest : IDisposable, INetPort
{
    const string Interface = "guest0";

    readonly EventLoop _loop = new();
    readonly Thread _loopThread, _namespaceThread;
    readonly BlockingCollection<Action> _work = [];
    readonly byte[] _frame = GC.AllocateArray<byte>(70_000, pinned: true),
        _out = GC.AllocateArray<byte>(70_000, pinned: true);
    readonly Memory<byte> _memory;
    int _tap = -1, _thread;
    INetQueue? _queue;

    /// <param name="offloads">What the card and its driver leave undone, both ways.</param>
    public KernelGuest(UserNetOptions options, NetOffloads offloads, bool configures = true)
    {
        _memory = _frame;
        _namespaceThread = new Thread(() => { foreach (Action work in _work.GetConsumingEnumerable()) work(); });
        _namespaceThread.Start();
        Inside(() => { MakeNamespace(offloads); return 0; });
        Backend = new UserNetBackend($"-netdev user,id={options.Id}", options,
            new GuestTargets([], _loop, _ => throw new InvalidOperationException(), _ => { }), Printed.Add);
        _queue = Backend.Open(0, this, _loop);
        _queue.Accept(offloads);
        _loop.Post(() => _loop.Watch(_tap, FdEvents.Readable, OnReadable));
        _loopThread = new Thread(_loop.Run);
        _loopThread.Start();
        Run($"ip link set lo up; ip link set {Interface} up");
        if (configures) Run($"ip addr add 10.0.2.15/24 dev {Interface}; ip route add default via 10.0.2.2");
    }

    public UserNetBackend Backend { get; }
    public List<string> Printed { get; } = [];

    public long FramesToGuest { get; private set; }
    public int LargestToGuest { get; private set; }
    public int LargestFromGuest { get; private set; }

    /// <summary>Every so many frames one is lost on the way to the guest, and on the way from it; 0 for none.</summary>
    public int LosesEvery { get; set; }

    /// <summary>Runs a shell's line in the guest; what it prints.</summary>
    public string Run(string line, int exitCode = 0)
    {
        using Process process = Start(line);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(exitCode < 0 || process.ExitCode == exitCode,
            $"{line}: exit code {process.ExitCode}\n{output}{errors.Result}");
        return output + errors.Result;
    }

    public Process Start(string line)
    {
        var start = new ProcessStartInfo("nsenter") { RedirectStandardOutput = true, RedirectStandardError = true };
        string own = $"--net=/proc/{Environment.ProcessId}/task/{_thread}/ns/net";
        foreach (string word in (string[])[own, "/bin/sh", "-c", line]) start.ArgumentList.Add(word);
        return Process.Start(start)!;
    }

    /// <summary>On a thread in the guest: a socket that is made there stays there.</summary>
    public T Inside<T>(Func<T> work)
    {
        T result = default!;
        Exception? failure = null;
        using var done = new ManualResetEventSlim();
        _work.Add(() =>
        {
            try { result = work(); }
            catch (Exception e) { failure = e; }
            done.Set();
        });
        done.Wait();
        if (failure != null) ExceptionDispatchInfo.Throw(failure);
        return result;
    }

    /// <summary>A TCP connection of the guest's.</summary>
    public Socket Connect(string address, int port) => Inside(() =>
    {
        var to = IPEndPoint.Parse(address.Contains(':') ? $"[{address}]:{port}" : $"{address}:{port}");
        var socket = new Socket(to.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 30_000 };
        try { socket.Connect(to); }
        catch { socket.Dispose(); throw; }
        return socket;
    });

    /// <summary>On the loop.</summary>
    public void OnLoop(Action work)
    {
        using var done = new ManualResetEventSlim();
        _loop.Post(() => { work(); done.Set(); });
        done.Wait();
    }

    public bool Receive(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        LargestToGuest = Math.Max(LargestToGuest, frame.Length);
        FramesToGuest++;
        if (LosesEvery > 0 && FramesToGuest % LosesEvery == 0) return true;
        Span<byte> head = stackalloc byte[NetHeader.Length];
        header.Write(head);
        head.CopyTo(_out);
        frame.CopyTo(_out.AsSpan(NetHeader.Length));
        fixed (byte* start = _out) Libc.write(_tap, start, (nuint)(NetHeader.Length + frame.Length));
        return true;
    }

    public void Dispose()
    {
        OnLoop(() =>
        {
            _loop.Unwatch(_tap);
            _queue?.Dispose();
            Backend.Dispose();
        });
        OnLoop(() => { });                                         // what the above posted
        _loop.Stop();
        _loopThread.Join();
        _loop.Dispose();
        _work.CompleteAdding();
        _namespaceThread.Join();
        Libc.close(_tap);
    }

    long _fromGuest;

    void OnReadable(FdEvents events)
    {
        for (int i = 0; i < 64; i++)
        {
            nint length;
            fixed (byte* start = _frame) length = Libc.read(_tap, start, (nuint)_frame.Length);
            if (length <= NetHeader.Length) return;
            int size = (int)length - NetHeader.Length;
            LargestFromGuest = Math.Max(LargestFromGuest, size);
            if (LosesEvery > 0 && ++_fromGuest % LosesEvery == 0) continue;
            _queue!.Send(NetHeader.Read(_frame), new ScatterList(_memory.Slice(NetHeader.Length, size)));
        }
    }

    void MakeNamespace(NetOffloads offloads)
    {
        const int newNetwork = 0x40000000, readWriteNonBlock = 0x80802;
        const nuint setInterface = 0x400454CA, setOffload = 0x400454D0;
        const ushort tapWithoutInformation = 0x1002, virtioHeader = 0x4000;
        const uint checksum = 1, tso4 = 2, tso6 = 4;
        _thread = gettid();
        if (unshare(newNetwork) != 0) throw new InvalidOperationException("cannot make a network namespace");
        _tap = Libc.open("/dev/net/tun", readWriteNonBlock, 0);
        byte* request = stackalloc byte[40];
        new Span<byte>(request, 40).Clear();
        Encoding.ASCII.GetBytes(Interface, new Span<byte>(request, 16));
        *(ushort*)(request + 16) = tapWithoutInformation | virtioHeader;
        uint taken = ((offloads & NetOffloads.Checksum) != 0 ? checksum : 0)
            | ((offloads & NetOffloads.Tso4) != 0 ? tso4 : 0) | ((offloads & NetOffloads.Tso6) != 0 ? tso6 : 0);
        if (ioctl(_tap, setInterface, request) != 0 || ioctl(_tap, setOffload, (void*)taken) != 0)
            throw new InvalidOperationException("cannot make a tap interface");
    }

    [LibraryImport("libc")]
    private static partial int unshare(int flags);

    [LibraryImport("libc")]
    private static partial int gettid();

    [LibraryImport("libc")]
    private static partial int ioctl(int fd, nuint request, void* argument);
}
