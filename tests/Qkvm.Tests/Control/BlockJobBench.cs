using System.Text.Json;
using Qkvm.Control;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Tests.Control;

/// <summary>A machine with qcow2 images in a directory, a drive that writes as a guest would, and what jobs
/// tell.</summary>
public abstract class BlockJobBench : IDisposable
{
    protected const int Size = 4 << 20, Block = 4096;

    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-jobs-").FullName;
    readonly List<MachineEvent> _events = [];

    protected BlockJobBench() => Bench.OnLoop(() => Bench.Machine.Events.Raised += _events.Add);

    internal ControlBench Bench { get; } = new();

    /// <summary>What a guest has written, as it has to be read.</summary>
    protected byte[] Model { get; } = new byte[Size];

    protected BlockBackend Drive { get; private set; } = null!;

    public void Dispose()
    {
        Bench.Dispose();
        Directory.Delete(_directory, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected string Path(string name) => System.IO.Path.Combine(_directory, name);

    protected string Query(string name, string arguments = "{}") => Bench.Query(name, arguments).GetRawText();

    protected string Error(string name, string arguments) =>
        Assert.ThrowsAny<Exception>(() => Bench.Query(name, arguments)).Message;

    /// <summary>An image and its node; it lies over nothing yet.</summary>
    /// <param name="over">The image that it names as its backing file.</param>
    protected void Make(string name, string? over = null)
    {
        File.WriteAllBytes(Path(name), []);
        Query("blockdev-add", $$"""{"driver":"file","node-name":"{{name}}-file","filename":"{{Path(name)}}"}""");
        string backing = over == null ? "" : $$""","backing-file":"{{Path(over)}}","backing-fmt":"qcow2" """;
        Query("blockdev-create",
            $$$"""
            {"job-id":"make","options":{"driver":"qcow2","file":"{{{name}}}-file","size":{{{Size}}} {{{backing}}} }}
            """);
        Await(JobStatus.Concluded, "make");
        Query("job-dismiss", """{"id":"make"}""");
        Forget();
        Query("blockdev-add",
            $$"""{"driver":"qcow2","node-name":"{{name}}","file":"{{name}}-file","backing":null}""");
    }

    /// <summary>A guest's disk.</summary>
    protected void Plug(string node)
    {
        Drive = new BlockBackend("guest", Bench.Environment.Loop.Post);
        Bench.OnLoop(() =>
        {
            Drive.Insert(Bench.Host.BlockJobs.Find(node));
            return Bench.Backends.Drives["guest"] = Drive;
        });
    }

    /// <summary>A guest writes, and waits for it.</summary>
    protected void Write(int offset, byte value, int length = Block)
    {
        var data = new byte[length];
        Array.Fill(data, value);
        data.CopyTo(Model, offset);
        Assert.Equal(0, Do(BlockOperation.Write, offset, data));
    }

    protected byte[] Read()
    {
        var data = new byte[Size];
        Assert.Equal(0, Do(BlockOperation.Read, 0, data));
        return data;
    }

    int Do(BlockOperation operation, long offset, byte[] data)
    {
        var request = new Request { Operation = operation, Offset = offset, Buffers = new ScatterList(data) };
        Bench.OnLoop(() =>
        {
            Drive.Submit(request);
            return 0;
        });
        return request.Done.Task.WaitAsync(TimeSpan.FromSeconds(60)).GetAwaiter().GetResult();
    }

    sealed class Request : BlockRequest
    {
        public TaskCompletionSource<int> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
        public override void Complete(int errno) => Done.SetResult(errno);
    }

    /// <summary>All bytes of a node.</summary>
    protected byte[] Contents(string node)
    {
        var data = new byte[Size];
        Bench.OnLoop(() => Bench.Host.BlockJobs.Find(node)).ReadAsync(0, new ScatterList(data)).AsTask()
            .GetAwaiter().GetResult();
        return data;
    }

    /// <summary>Waits until a job has been in a state.</summary>
    protected void Await(JobStatus status, string job = "j") =>
        Assert.True(SpinWait.SpinUntil(() => Bench.OnLoop(() => _events.OfType<JobStatusChangeEvent>().Any(e =>
            e.Id == job && e.Status == status)), TimeSpan.FromSeconds(60)), $"{status}: {string.Join(" ", Told(job))}");

    /// <summary>What a job told, in short.</summary>
    protected string[] Told(string job = "j") => Bench.OnLoop(() => _events.Select(e => e switch
    {
        JobStatusChangeEvent changed when changed.Id == job => changed.Status.ToString(),
        BlockJobEvent told when told.Device == job => EventCatalogue.Of(told).Name,
        BlockJobPendingEvent told when told.Id == job => EventCatalogue.Of(told).Name,
        BlockJobErrorEvent told when told.Device == job => EventCatalogue.Of(told).Name,
        _ => "",
    }).Where(text => text.Length > 0).ToArray());

    protected void Forget() => Bench.OnLoop(() =>
    {
        _events.Clear();
        return 0;
    });
}
