using System.Buffers.Binary;
using System.Collections.Concurrent;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Jobs;

namespace Qkvm.Storage.Tests;

/// <summary>qcow2 images in memory, one over the other, a guest's drive on the topmost and jobs on them. Each sector
/// holds the number of the write that it comes from.</summary>
sealed class JobBench : IDisposable
{
    public const int Size = 4 << 20, Sector = 512, Sectors = Size / Sector;
    const int Cluster = 4096, Patience = 60;                       // seconds

    static readonly string[] s_chain = ["base", "mid", "top"];

    readonly BlockingCollection<Action> _posted = [];
    readonly Thread _loop;
    readonly SemaphoreSlim _graph = new(1);
    readonly Random _random;
    readonly long[] _written = new long[Sectors];
    readonly List<(int At, long[] Written)> _promises = [];
    long _number;

    JobBench(int seed)
    {
        _random = new Random(seed);
        _loop = new Thread(() =>
        {
            foreach (Action action in _posted.GetConsumingEnumerable()) action();
        });
        _loop.Start();
        Factory = FactoryOf(Files);
        List = new JobList(_posted.Add);
        Drive = new BlockBackend("guest", _posted.Add);
        var backends = new MachineBackends { Drives = { ["guest"] = Drive } };
        Jobs = new BlockJobs(new BlockGraph(Factory, backends, ChangeAsync), List, s_drivers);
        List.Happened += happened =>
        {
            if (happened is BlockJobReadyEvent) Ready.TrySetResult();
            if (happened is BlockJobErrorEvent error) Failed.TrySetResult(error.Operation);
            if (happened is JobStatusChangeEvent { Status: JobStatus.Concluded, Id: var id })
                Ended.TrySetResult(List.Find(id)!.Error);
        };
    }

    public Dictionary<string, MemoryFile> Files { get; } = [];
    public Journal Journal { get; } = new();
    public BlockFactory Factory { get; }
    public JobList List { get; }
    public BlockJobs Jobs { get; }
    public BlockBackend Drive { get; }
    public TaskCompletionSource Ready { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>With "read" or "write".</summary>
    public TaskCompletionSource<string> Failed { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>With the job's error.</summary>
    public TaskCompletionSource<string?> Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    static readonly Catalogue<BlockDriverModel> s_drivers = Drivers([]);

    static Catalogue<BlockDriverModel> Drivers(Dictionary<string, MemoryFile> files) => new("block driver",
        [RawDriver.Model, Qcow2Driver.Model,
        new BlockDriverModel("memory", [Property.Text("filename")],
            (properties, _) => files[properties.Text("filename")!["memory:".Length..]])
        {
            IsProtocol = true, Prefixes = ["memory"],
        }]);

    static BlockFactory FactoryOf(Dictionary<string, MemoryFile> files) => new(Drivers(files), _ => { });

    static BlockDriver Open(BlockFactory factory, string name) => factory.AddNode(
        Scratch.Options($"driver=qcow2,node-name={name},file.driver=memory,file.filename=memory:{name}", "test"));

    /// <summary>base ← mid ← top, each with something of its own, and a guest on the topmost.</summary>
    public static async Task<JobBench> MakeAsync(int seed)
    {
        var bench = new JobBench(seed);
        string? below = null;
        foreach (string name in s_chain)
        {
            await bench.CreateAsync(name, below);
            bench.Drive.Insert(null);
            BlockDriver node = Open(bench.Factory, name);
            bench.Drive.Insert(node);
            for (int i = 0; i < 20; i++) await bench.WriteAsync();
            await node.FlushAsync();
            bench.Drive.Insert(null);
            await bench.Factory.RemoveNodeAsync(name);
            below = name;
        }
        bench.Drive.Insert(Open(bench.Factory, "top"));
        return bench;
    }

    /// <summary>An empty image over another one.</summary>
    public async Task CreateAsync(string name, string? below)
    {
        var file = new MemoryFile([]) { NodeName = $"memory:{name}", KeepsLog = false };
        await Qcow2Image.FormatAsync(file, name, Size, new Qcow2CreateOptions
        {
            ClusterSize = Cluster, BackingFile = below == null ? null : $"memory:{below}", BackingFormat = "qcow2",
        });
        Files[name] = file;
    }

    public BlockDriver Node(string name) => Open(Factory, name);

    /// <summary>From now on the machine may die.</summary>
    public async Task FollowAsync()
    {
        foreach (MemoryFile file in Files.Values) Journal.Follow(file);
        await FlushAsync();
    }

    /// <summary>Calls on the main loop, where jobs are asked.</summary>
    public Task AskAsync(Func<ValueTask> ask)
    {
        var asked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _posted.Add(async () =>
        {
            try
            {
                await ask();
                asked.SetResult();
            }
            catch (Exception e) { asked.SetException(e); }
        });
        return asked.Task.WaitAsync(TimeSpan.FromSeconds(Patience));
    }

    public Task CompleteAsync(string job) => AskAsync(() =>
    {
        List.Find(job)!.Complete();
        return default;
    });

    /// <summary>Writes some sectors as a guest does.</summary>
    public async Task WriteAsync()
    {
        int count = _random.Next(1, 256), first = _random.Next(Sectors - count);
        var data = new byte[count * Sector];
        _number++;
        for (int i = 0; i < count; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(data.AsSpan(i * Sector), _number);
            _written[first + i] = _number;
        }
        Assert.Equal(0, await DoAsync(BlockOperation.Write, (long)first * Sector, data));
    }

    /// <summary>What was written is promised when this ends.</summary>
    public async Task FlushAsync()
    {
        Assert.Equal(0, await DoAsync(BlockOperation.Flush, 0, []));
        _promises.Add((Journal.Count, (long[])_written.Clone()));
    }

    public async Task<long[]> NumbersAsync()
    {
        var data = new byte[Size];
        Assert.Equal(0, await DoAsync(BlockOperation.Read, 0, data));
        return Numbers(data);
    }

    public long[] Written => _written;

    Task<int> DoAsync(BlockOperation operation, long offset, byte[] data)
    {
        var request = new Request { Operation = operation, Offset = offset, Buffers = new ScatterList(data) };
        _posted.Add(() => Drive.Submit(request));
        return request.Done.Task.WaitAsync(TimeSpan.FromSeconds(Patience));
    }

    sealed class Request : BlockRequest
    {
        public TaskCompletionSource<int> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
        public override void Complete(int errno) => Done.SetResult(errno);
    }

    static long[] Numbers(byte[] data)
    {
        var numbers = new long[Sectors];
        for (int i = 0; i < Sectors; i++) numbers[i] = BinaryPrimitives.ReadInt64LittleEndian(data.AsSpan(i * Sector));
        return numbers;
    }

    /// <summary>The machine dies before an entry of the journal: the image of a name opens, with the images that it
    /// names, and has all that was promised.</summary>
    public async Task CheckAfterDeathAsync(string name, int at)
    {
        var files = Files.ToDictionary(one => one.Key, one => new MemoryFile(Journal.Replay(one.Value, at, _random))
        {
            NodeName = $"memory:{one.Key}", KeepsLog = false,
        });
        await using BlockFactory factory = FactoryOf(files);
        long[] found = Numbers(await Open(factory, name).Read(0, Size));
        long[] promised = _promises.Last(promise => promise.At <= at).Written;
        for (int i = 0; i < Sectors; i++)
            Assert.True(found[i] >= promised[i],
                $"'{name}' before {at} of {Journal.Count}: sector {i} is of write {found[i]}, not {promised[i]}");
    }

    async ValueTask ChangeAsync(Func<ValueTask> change)
    {
        await _graph.WaitAsync();
        try { await Task.Run(() => change().AsTask()); }
        finally { _graph.Release(); }
    }

    public void Dispose()
    {
        List.Kill();
        _posted.CompleteAdding();
        _loop.Join();
    }
}
