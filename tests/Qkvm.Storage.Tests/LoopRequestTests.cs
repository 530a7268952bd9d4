using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Storage.Tests;

/// <summary>Tests that count what the process allocates run alone.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>Requests that a loop starts: from the page cache, by its ring, or left to worker threads.</summary>
[Collection(nameof(Alone))]
public sealed class LoopRequestTests : IDisposable
{
    const int Size = 4 << 20;
    static readonly TimeSpan Hang = TimeSpan.FromSeconds(60);

    readonly Scratch _scratch = new();
    readonly EventLoop _loop = new(pollNanoseconds: 20_000);
    readonly Thread _thread;

    public LoopRequestTests()
    {
        _thread = new Thread(_loop.Run);
        _thread.Start();
    }

    public void Dispose()
    {
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
        _scratch.Dispose();
    }

    [Theory]
    [InlineData("raw", "format=raw")]
    [InlineData("raw", "format=raw,cache=none")]
    [InlineData("raw", "format=raw,offset=4096")]
    [InlineData("qcow2", "format=qcow2")]
    [InlineData("qcow2", "format=qcow2,cache=none")]
    public void What_is_written_on_a_loop_is_read_there(string format, string options)
    {
        BlockBackend backend = Open(format, options);
        var random = new Random(5);
        int size = (int)backend.Length;
        var model = new byte[size];
        for (int round = 0; round < 30; round++)
        {
            Request[] writes =
                [.. Enumerable.Range(0, 8)
                .Select(i =>
                new Request(BlockOperation.Write, (long)(i * 8 + random.Next(4)) * (size / 64 & ~4095),
                4096 * random.Next(1, 4), random.Next()))];
            Run(backend, writes);
            foreach (Request write in writes) write.Data.Span.CopyTo(model.AsSpan((int)write.Offset));
            Run(backend, new Request(BlockOperation.Flush, 0, 0, 0));
            Request[] reads = [.. writes.Select(w => new Request(BlockOperation.Read, w.Offset, w.Data.Length, 0))];
            Run(backend, reads);
            foreach (Request read in reads)
                Assert.Equal(model.AsSpan((int)read.Offset, read.Data.Length), read.Data.Span);
        }
        Close(backend);
    }

    [Theory]
    [InlineData("format=raw")]
    [InlineData("format=raw,cache=none")]
    public void Requests_beyond_the_end_fail_with_an_errno(string options)
    {
        BlockBackend backend = Open("raw", options);
        var beyond = new Request(BlockOperation.Read, Size, 4096, 0);
        Run(backend, beyond);
        Assert.Equal(22, beyond.Result);
        Close(backend);
    }

    [Fact]
    public void The_end_of_an_odd_file_reads_as_zeros()
    {
        File.WriteAllBytes(_scratch["odd"], [.. Enumerable.Repeat((byte)7, 5000)]);
        BlockBackend backend = Wrap(_scratch.OpenUnused("odd", "format=raw"));
        var read = new Request(BlockOperation.Read, 4096, 1024, 1);
        Run(backend, read);
        Assert.Equal((0, 7, 0, 0), (read.Result, read.Data.Span[903], read.Data.Span[904], read.Data.Span[1023]));
        Close(backend);
    }

    [RingFact]
    public async Task A_ring_reads_what_is_in_a_file_and_reports_errors()
    {
        File.WriteAllBytes(_scratch["a"], [.. Enumerable.Range(0, 8192).Select(i => (byte)(i >> 5))]);
        using HostFile file = HostFile.Open(_scratch["a"], 0, out _)!;
        using IoRing ring = IoRing.Create()!;
        byte[] first = new byte[100], second = new byte[200];
        Assert.True(ring.TryTransfer(file, isWrite: false, 4000, [first, second], out ValueTask<int> read));
        Assert.True(ring.TryTransfer(file, isWrite: true, 0, [first], out ValueTask<int> refused));
        ring.Submit();
        Assert.True(SpinWait.SpinUntil(() => { ring.Reap(); return read.IsCompleted && refused.IsCompleted; }, Hang));
        Assert.Equal(300, await read);
        Assert.Equal(-9, await refused);                           // EBADF: opened for reading
        Assert.Equal(((byte)(4000 >> 5), (byte)(4299 >> 5)), (first[0], second[199]));
    }

    [Theory]
    [InlineData("raw", "format=raw", BlockOperation.Read)]
    [InlineData("raw", "format=raw,cache=none", BlockOperation.Read)]
    [InlineData("qcow2", "format=qcow2", BlockOperation.Read)]
    [InlineData("qcow2", "format=qcow2,cache=none", BlockOperation.Write)]
    public void Steady_traffic_allocates_next_to_nothing(string format, string options, BlockOperation operation)
    {
        BlockBackend backend = Open(format, options);
        Request[] all = [.. Enumerable.Range(0, 32).Select(i => new Request(operation, i * 65536L, 4096, 1))];
        Run(backend, [.. all.Select(r => new Request(BlockOperation.Write, r.Offset, 4096, 1))]);
        for (int i = 0; i < 50; i++) Run(backend, all);
        // Of several rounds the least: what others allocate meanwhile, and waiting on a busy host, only adds to it.
        long least = long.MaxValue;
        for (int round = 0; round < 20; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < 10; i++) Run(backend, all);
            least = Math.Min(least, (GC.GetTotalAllocatedBytes(precise: true) - before) / 320);
        }
        Assert.InRange(least, 0, 24);                              // what this test itself needs to run 32 of them
        Close(backend);
    }

    BlockBackend Open(string format, string options)
    {
        if (format == "raw") File.WriteAllBytes(_scratch["disk"], new byte[Size]);
        else QemuTools.Img("create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", _scratch["disk"], $"{Size}");
        return Wrap(_scratch.OpenUnused("disk", options));
    }

    BlockBackend Wrap(BlockDriver root)
    {
        var backend = new BlockBackend("d", static work => work());
        backend.Insert(root);
        _queue = new BlockQueue(backend, _loop, static () => { });
        return backend;
    }

    BlockQueue? _queue;

    static void Close(BlockBackend backend)
    {
        Assert.Equal(0, backend.InFlight);
        backend.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    void Run(BlockBackend backend, params Request[] requests)
    {
        using var done = new CountdownEvent(requests.Length);
        foreach (Request request in requests) request.Done = done;
        _loop.Post(() => { foreach (Request request in requests) _queue!.Submit(request); });
        Assert.True(done.Wait(Hang));
        Assert.True(backend.Drain(60_000));
    }

    sealed class Request : BlockRequest
    {
        readonly AlignedBuffer _buffer;

        public Request(BlockOperation operation, long offset, int length, int seed)
        {
            _buffer = new AlignedBuffer(Math.Max(length, 4096), 4096);
            (Operation, Offset, Data) = (operation, offset, _buffer.Memory[..length]);
            if (operation == BlockOperation.Write) new Random(seed).NextBytes(Data.Span);
            Buffers = new ScatterList(Data);
        }

        public Memory<byte> Data { get; }
        public int Result { get; private set; } = -1;
        public CountdownEvent? Done { get; set; }

        public override void Complete(int errno)
        {
            Result = errno;
            Done!.Signal();
        }
    }
}
