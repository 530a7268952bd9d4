using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Tests;

/// <summary>The machine dies, or a disk fails, while a job runs and a guest writes: what was flushed is
/// there.</summary>
public sealed class JobCrashTests
{
    /// <summary>Deaths at random points, and right before the job's end, where images get other names.</summary>
    const int Deaths = 20, LastDeaths = 25;

    static JobOptions Options => new("j", AutoDismiss: false);

    [Theory]
    [InlineData("commit", 1)] [InlineData("commit", 2)] [InlineData("commit-mid", 3)] [InlineData("commit-mid", 4)]
    [InlineData("stream", 5)] [InlineData("stream", 6)] [InlineData("stream-mid", 7)] [InlineData("stream-mid", 8)]
    [InlineData("mirror", 9)] [InlineData("mirror", 10)]
    public async Task What_was_flushed_survives_a_death_at_any_point(string what, int seed)
    {
        using JobBench bench = await JobBench.MakeAsync(seed);
        if (what == "mirror")
        {
            await bench.CreateAsync("copy", null);
            bench.Node("copy");
        }
        await bench.FollowAsync();
        await StartAsync(bench, what, new());
        for (int i = 0; i < 30; i++)
        {
            await bench.WriteAsync();
            if (i % 5 == 4) await bench.FlushAsync();
        }
        string pivot = what switch { "commit" => "base", "mirror" => "copy", _ => "top" };
        if (pivot != "top")
        {
            await bench.Ready.Task.WaitAsync(TimeSpan.FromSeconds(60));
            for (int i = 0; i < 5; i++) await bench.WriteAsync();
            await bench.FlushAsync();
            await bench.CompleteAsync("j");
        }
        Assert.Null(await bench.Ended.Task.WaitAsync(TimeSpan.FromSeconds(60)));
        int ended = bench.Journal.Count;
        for (int i = 0; i < 5; i++) await bench.WriteAsync();
        await bench.FlushAsync();

        Assert.Equal(bench.Written, await bench.NumbersAsync());
        var random = new Random(seed);
        for (int i = 0; i < Deaths; i++) await bench.CheckAfterDeathAsync("top", random.Next(1, ended + 1));
        for (int i = 0; i < LastDeaths; i++) await bench.CheckAfterDeathAsync("top", ended - i);
        for (int at = ended; at <= bench.Journal.Count; at++) await bench.CheckAfterDeathAsync(pivot, at);
    }

    static Task StartAsync(JobBench bench, string what, JobErrorPolicies errors) => bench.AskAsync(() => what switch
    {
        "commit" => bench.Jobs.CommitAsync(new(Options, "top", Errors: errors)),
        "commit-mid" => bench.Jobs.CommitAsync(new(Options, "top", Middle(bench), Errors: errors)),
        "stream" => bench.Jobs.StreamAsync(new(Options, "top", Errors: errors)),
        "stream-mid" => bench.Jobs.StreamAsync(new(Options, "top", Bottom(bench), Errors: errors)),
        "mirror" => bench.Jobs.MirrorAsync(new(Options, "top", "copy", CopyScope.Full, Errors: errors)),
        _ => throw new ArgumentException(what),
    });

    static string Middle(JobBench bench) => bench.Drive.Root!.Below!.NodeName;
    static string Bottom(JobBench bench) => bench.Drive.Root!.Below!.Below!.NodeName;

    /// <summary>The file that a job writes to is full, or the one that it reads from fails; with what it tells, which
    /// of a stream is always "read".</summary>
    public static TheoryData<string, string, string> Failures => new()
    {
        { "commit", "base", "write" }, { "commit-mid", "base", "write" }, { "stream", "top", "read" },
        { "mirror", "copy", "write" }, { "commit-mid", "mid", "read" }, { "stream", "base", "read" },
        { "stream-mid", "mid", "read" },
    };

    [Theory, MemberData(nameof(Failures))]
    public async Task A_job_that_fails_leaves_the_disk_as_the_guest_wrote_it(string what, string file, string operation)
    {
        using JobBench bench = await Failing(what, file, operation, new());
        string? error = await bench.Ended.Task.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.NotNull(error);
        Assert.Equal(operation, await bench.Failed.Task);
        Mend(bench, file);
        await bench.WriteAsync();
        await bench.FlushAsync();
        Assert.Equal(bench.Written, await bench.NumbersAsync());
        await bench.CheckAfterDeathAsync("top", bench.Journal.Count);
    }

    [Theory, MemberData(nameof(Failures))]
    public async Task A_job_that_an_error_stopped_goes_on_when_it_is_mended(string what, string file, string operation)
    {
        using JobBench bench = await Failing(what, file, operation,
            new JobErrorPolicies(ErrorPolicy.Stop, ErrorPolicy.Enospc));
        Assert.Equal(operation, await bench.Failed.Task.WaitAsync(TimeSpan.FromSeconds(60)));
        await UntilPausedAsync(bench);
        Assert.True(bench.List.Find("j")!.IsStopped);
        Mend(bench, file);
        await bench.AskAsync(() =>
        {
            bench.List.Find("j")!.Resume();
            return default;
        });
        if (what is "commit" or "mirror")
        {
            await bench.Ready.Task.WaitAsync(TimeSpan.FromSeconds(60));
            await bench.CompleteAsync("j");
        }
        Assert.Null(await bench.Ended.Task.WaitAsync(TimeSpan.FromSeconds(60)));
        await bench.FlushAsync();
        Assert.Equal(bench.Written, await bench.NumbersAsync());
        await bench.CheckAfterDeathAsync(what switch { "commit" => "base", "mirror" => "copy", _ => "top" },
            bench.Journal.Count);
    }

    static async Task<JobBench> Failing(string what, string file, string operation, JobErrorPolicies errors)
    {
        JobBench bench = await JobBench.MakeAsync(11);
        await bench.CreateAsync("copy", null);
        if (what == "mirror") bench.Node("copy");
        await bench.FollowAsync();
        if (operation == "read" && file != "top") bench.Files[file].IsUnreadable = true;
        else bench.Files[file].WritesUntilError = 2;
        await StartAsync(bench, what, errors);
        return bench;
    }

    static void Mend(JobBench bench, string file) =>
        (bench.Files[file].IsUnreadable, bench.Files[file].WritesUntilError) = (false, int.MaxValue);

    static async Task UntilPausedAsync(JobBench bench)
    {
        for (int i = 0; i < 600; i++)
        {
            JobStatus status = default;
            await bench.AskAsync(() =>
            {
                status = bench.List.Find("j")!.Status;
                return default;
            });
            if (status == JobStatus.Paused) return;
            await Task.Delay(100);
        }
        Assert.Fail("the job did not pause");
    }
}
