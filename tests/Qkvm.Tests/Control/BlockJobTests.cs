using Qkvm.Core.Block.Jobs;

namespace Qkvm.Tests.Control;

/// <summary>Jobs on disks that a guest goes on to write to: what they tell and what is in the images.</summary>
public sealed class BlockJobTests : BlockJobBench
{
    static readonly string[] s_completed = ["Created", "Running", "Ready", "BLOCK_JOB_READY", "Waiting", "Pending",
        "BLOCK_JOB_COMPLETED", "Concluded"];

    void Snapshot(string node, string overlay)
    {
        Make(overlay, node);
        Query("transaction", $$$"""
            {"actions":[{"type":"blockdev-snapshot","data":{"node":"{{{node}}}","overlay":"{{{overlay}}}"}}]}
            """);
    }

    /// <summary>base ← mid ← top, each with something of its own.</summary>
    void MakeChain()
    {
        Make("base");
        Plug("base");
        Write(0, 1, 1 << 20);
        Snapshot("base", "mid");
        Write(512 << 10, 2, 1 << 20);
        Snapshot("mid", "top");
        Write(1 << 20, 3, 64 << 10);
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void A_format_is_written_by_a_job_that_stays_until_it_is_dismissed()
    {
        File.WriteAllBytes(Path("new"), []);
        Query("blockdev-add", $$"""{"driver":"file","node-name":"f","filename":"{{Path("new")}}"}""");
        Query("blockdev-create",
            """{"job-id":"j","options":{"driver":"qcow2","file":"f","size":1048576,"cluster-size":4096}}""");
        Await(JobStatus.Concluded);
        Assert.Equal(["Created", "Running", "Waiting", "Pending", "Concluded"], Told());
        Assert.Equal("""[{"id":"j","type":"create","status":"concluded","current-progress":1,"total-progress":1}]""",
            Query("query-jobs"));
        Assert.Equal("[]", Query("query-block-jobs"));
        Query("job-dismiss", """{"id":"j"}""");
        Assert.Equal("[]", Query("query-jobs"));
        Query("blockdev-add", """{"driver":"qcow2","node-name":"n","file":"f"}""");
        Assert.Contains("\"cluster-size\":4096", Query("query-named-block-nodes"));
    }

    [Fact]
    public void What_is_written_after_a_snapshot_goes_to_the_overlay_alone()
    {
        MakeChain();
        byte[] bottom = Contents("base");
        Assert.Equal((1, 0), (bottom[(512 << 10) + 1], bottom[1 << 20]));
        Assert.True(Bench.OnLoop(() => Bench.Host.BlockJobs.Find("base").IsReadOnly));
        Assert.Equal(Model, Contents("top"));
    }

    [Fact]
    public void An_image_that_a_guest_writes_to_is_committed_and_its_base_takes_its_place()
    {
        MakeChain();
        Query("block-commit", """{"device":"top","job-id":"j","base-node":"base","auto-dismiss":false}""");
        Await(JobStatus.Ready);
        Write(2 << 20, 4);                                         // follows
        Query("job-complete", """{"id":"j"}""");
        Await(JobStatus.Concluded);
        Assert.Equal(s_completed, Told());
        Assert.Equal("base", Bench.OnLoop(() => Drive.Root!.NodeName));
        Write(3 << 20, 5);
        Assert.Equal(Model, Read());
        Assert.Equal(Model, Contents("base"));
        Query("job-dismiss", """{"id":"j"}""");
        foreach (string node in (string[])["top", "mid"]) Query("blockdev-del", $$"""{"node-name":"{{node}}"}""");
    }

    [Fact]
    public void An_image_between_is_committed_and_the_one_over_it_names_the_base()
    {
        MakeChain();
        Query("block-commit", """{"device":"top","job-id":"j","top-node":"mid","base-node":"base"}""");
        Await(JobStatus.Null);
        Assert.Equal(["Created", "Running", "Waiting", "Pending", "BLOCK_JOB_COMPLETED", "Concluded", "Null"], Told());
        Assert.Equal(Model, Read());
        Query("blockdev-del", """{"node-name":"mid"}""");
        Assert.Equal(2, Contents("base")[1 << 20]);
        Assert.Equal("base", Bench.OnLoop(() => Drive.Root!.Children.Single(c => c.Role == "backing").Node.NodeName));
        Assert.Equal(Path("base"), Bench.OnLoop(() => Drive.Root!.Facts.BackingFile));
    }

    [Fact]
    public void An_image_takes_in_what_it_lies_over_while_a_guest_writes()
    {
        MakeChain();
        Query("block-stream", """{"device":"top","job-id":"j","base-node":"base","speed":4194304}""");
        for (int i = 0; i < 32; i++) Write(i * (64 << 10) + Block, 7);
        Await(JobStatus.Null);
        Assert.Contains("BLOCK_JOB_COMPLETED", Told());
        Assert.Equal(Model, Read());
        Query("blockdev-del", """{"node-name":"mid"}""");
        Forget();
        Query("block-stream", """{"device":"top","job-id":"j"}""");
        Await(JobStatus.Null);
        Query("blockdev-del", """{"node-name":"base"}""");
        Assert.Equal(Model, Read());
        Assert.Null(Bench.OnLoop(() => Drive.Root!.Facts.BackingFile));
    }

    [Theory]
    [InlineData("background")]
    [InlineData("write-blocking")]
    public void A_mirror_follows_a_guest_and_takes_the_place_of_its_disk(string mode)
    {
        MakeChain();
        Make("copy");
        Query("blockdev-mirror",
            $$"""{"device":"top","job-id":"j","target":"copy","sync":"full","copy-mode":"{{mode}}"}""");
        var random = new Random(1);
        for (int i = 0; i < 200; i++) Write(random.Next(Size / Block) * Block, (byte)random.Next(256));
        Await(JobStatus.Ready);
        for (int i = 0; i < 200; i++) Write(random.Next(Size / Block) * Block, (byte)random.Next(256));
        Query("job-complete", """{"id":"j"}""");
        Await(JobStatus.Null);
        Assert.Equal("copy", Bench.OnLoop(() => Drive.Root!.NodeName));
        Assert.Equal(Model, Read());
        Query("blockdev-del", """{"node-name":"top"}""");
    }

    [Fact]
    public void A_mirror_that_is_cancelled_when_ready_leaves_a_whole_copy_and_the_disk_where_it_is()
    {
        MakeChain();
        Make("copy");
        Query("blockdev-mirror", """{"device":"top","job-id":"j","target":"copy","sync":"full"}""");
        Await(JobStatus.Ready);
        Write(0, 9);
        Query("block-job-cancel", """{"device":"j"}""");
        Await(JobStatus.Null);
        Assert.Contains("BLOCK_JOB_COMPLETED", Told());
        Assert.Equal("top", Bench.OnLoop(() => Drive.Root!.NodeName));
        Assert.Equal(Model, Contents("copy"));
    }

    [Fact]
    public void A_backup_is_the_disk_as_it_was_when_the_job_started()
    {
        MakeChain();
        Make("copy");
        byte[] then = [.. Model];
        Query("blockdev-backup", """{"device":"top","job-id":"j","target":"copy","sync":"full","speed":1}""");
        var random = new Random(2);
        for (int i = 0; i < 300; i++) Write(random.Next(Size / Block) * Block, (byte)random.Next(256));
        Query("block-job-set-speed", """{"device":"j","speed":0}""");
        Await(JobStatus.Null);
        Assert.Equal(then, Contents("copy"));
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void An_incremental_backup_has_what_a_bitmap_says_and_the_bitmap_starts_anew()
    {
        Make("disk");
        Plug("disk");
        Write(0, 1, 1 << 20);
        Make("full");
        Query("transaction", """
            {"actions":[{"type":"block-dirty-bitmap-add","data":{"node":"disk","name":"b","persistent":true}},
            {"type":"blockdev-backup","data":{"device":"disk","job-id":"j","target":"full","sync":"full"}}]}
            """);
        Await(JobStatus.Null);
        Forget();
        Write(128 << 10, 2);
        Make("inc");
        Query("blockdev-backup",
            """{"device":"disk","job-id":"j","target":"inc","sync":"incremental","bitmap":"b"}""");
        Await(JobStatus.Null);
        byte[] part = Contents("inc");
        Assert.Equal((0, 2), (part[0], part[128 << 10]));
        Assert.Contains("\"count\":0", Query("query-block"));
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void A_job_that_fails_leaves_its_bitmap_as_it_was()
    {
        Make("disk");
        Plug("disk");
        Query("block-dirty-bitmap-add", """{"node":"disk","name":"b"}""");
        Write(0, 1);
        Query("blockdev-add", """{"driver":"null-co","node-name":"t","size":4194304}""");
        Query("blockdev-backup", """
            {"device":"disk","job-id":"j","target":"t","sync":"bitmap","bitmap":"b","bitmap-mode":"on-success",
            "speed":1}
            """);
        Write(1 << 20, 2);
        Query("job-cancel", """{"id":"j"}""");
        Await(JobStatus.Null);
        Assert.Contains("BLOCK_JOB_CANCELLED", Told());
        Assert.Contains("\"count\":131072", Query("query-block"));
    }

    [Fact]
    public void Of_a_transaction_all_happens_or_nothing()
    {
        MakeChain();
        Make("over", "top");
        Assert.Equal("Transaction aborted using Abort action", Error("transaction", """
            {"actions":[{"type":"block-dirty-bitmap-add","data":{"node":"top","name":"b"}},
            {"type":"blockdev-snapshot","data":{"node":"top","overlay":"over"}},{"type":"abort","data":{}}]}
            """));
        Assert.Equal("top", Bench.OnLoop(() => Drive.Root!.NodeName));
        Assert.Equal("Dirty bitmap 'b' not found", Error("block-dirty-bitmap-clear", """{"node":"top","name":"b"}"""));
        Write(0, 8);
        Assert.Equal(Model, Read());
        Query("blockdev-snapshot", """{"node":"top","overlay":"over"}""");
        Assert.Equal("over", Bench.OnLoop(() => Drive.Root!.NodeName));
    }

    [Fact]
    public void A_snapshot_makes_its_image_where_only_a_file_is_named()
    {
        Make("disk");
        Plug("disk");
        Write(0, 1);
        Query("blockdev-snapshot-sync", $$"""{"device":"guest","snapshot-file":"{{Path("snap")}}"}""");
        Write(0, 2);
        Assert.Equal((1, 2), (Contents("disk")[0], Read()[0]));
        Assert.Equal(Path("disk"), Bench.OnLoop(() => Drive.Root!.Facts.BackingFile));
        Query("block-commit", """{"device":"guest"}""");
        Await(JobStatus.Ready, "guest");
        Query("block-job-complete", """{"device":"guest"}""");
        Await(JobStatus.Null, "guest");
        Assert.Equal("disk", Bench.OnLoop(() => Drive.Root!.NodeName));
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void A_job_waits_while_it_is_paused_and_says_what_it_does_not_take()
    {
        MakeChain();
        Make("copy");
        Query("blockdev-mirror", """{"device":"top","job-id":"j","target":"copy","sync":"full","speed":1048576}""");
        Query("block-job-pause", """{"device":"j"}""");
        Await(JobStatus.Paused);
        Assert.Equal("Job is already paused", Error("job-pause", """{"id":"j"}"""));
        Assert.Equal("Job 'j' in state 'paused' cannot accept command verb 'complete'",
            Error("job-complete", """{"id":"j"}"""));
        Assert.Equal("The block job for device 'j' is currently paused",
            Error("block-job-cancel", """{"device":"j"}"""));
        Query("job-resume", """{"id":"j"}""");
        Assert.Equal("Can't resume a job that was not paused", Error("job-resume", """{"id":"j"}"""));
        Assert.Equal("Job not found", Error("job-cancel", """{"id":"k"}"""));
        Assert.Equal("Block job 'k' not found", Error("block-job-cancel", """{"device":"k"}"""));
        Assert.Equal("Job ID 'j' already in use",
            Error("block-stream", """{"device":"top","job-id":"j"}"""));
        Query("block-job-cancel", """{"device":"j"}""");
        Await(JobStatus.Null);
        Assert.Contains("Aborting", Told());
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void A_job_may_wait_to_be_finalized()
    {
        MakeChain();
        Query("block-commit",
            """{"device":"top","job-id":"j","top-node":"mid","base-node":"base","auto-finalize":false}""");
        Await(JobStatus.Pending);
        Assert.Equal("mid", Bench.OnLoop(() => Drive.Root!.Children.Single(c => c.Role == "backing").Node.NodeName));
        Query("job-finalize", """{"id":"j"}""");
        Await(JobStatus.Null);
        Assert.Contains("BLOCK_JOB_PENDING", Told());
        Assert.Equal("base", Bench.OnLoop(() => Drive.Root!.Children.Single(c => c.Role == "backing").Node.NodeName));
        Assert.Equal(Model, Read());
    }

    [Theory]
    [InlineData("block-commit", """{"device":"nobody"}""", "Cannot find device='nobody' nor node-name='nobody'")]
    [InlineData("block-commit", """{"device":"top","job-id":"j","top-node":"copy"}""",
        "'copy' is not in this backing file chain")]
    [InlineData("block-commit", """{"device":"top"}""", "An explicit job ID is required for this node")]
    [InlineData("block-commit", """{"device":"top","job-id":"1j"}""", "Invalid job ID '1j'")]
    [InlineData("blockdev-mirror", """{"device":"top","job-id":"j","target":"top","sync":"full"}""",
        "Can't mirror node into itself")]
    [InlineData("blockdev-mirror", """{"device":"top","job-id":"j","target":"small","sync":"full"}""",
        "Source and target image have different sizes")]
    [InlineData("blockdev-mirror",
        """{"device":"top","job-id":"j","target":"copy","sync":"full","granularity":1000}""",
        "Parameter 'granularity' expects a power of 2")]
    [InlineData("blockdev-backup", """{"device":"top","job-id":"j","target":"copy","sync":"incremental"}""",
        "must provide a valid bitmap name for 'incremental' sync mode")]
    [InlineData("blockdev-snapshot", """{"node":"top","overlay":"mid"}""", "The overlay is already in use")]
    [InlineData("block-dirty-bitmap-add", """{"node":"top","name":""}""", "Bitmap name cannot be empty")]
    [InlineData("block-dirty-bitmap-add", """{"node":"small","name":"b","persistent":true}""",
        "Cannot store dirty bitmaps in file 'null-co://'")]
    public void What_cannot_be_started_says_why(string command, string arguments, string message)
    {
        MakeChain();
        Make("copy");
        Query("blockdev-add", """{"driver":"null-co","node-name":"small","size":1048576}""");
        Assert.Equal(message, Error(command, arguments));
        Assert.Equal(Model, Read());
    }
}
