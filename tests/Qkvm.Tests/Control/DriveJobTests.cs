using Qkvm.Core.Block.Jobs;

namespace Qkvm.Tests.Control;

/// <summary>Jobs that make the image that they write, backups by bitmaps, jobs that end together, and what the human
/// monitor prints, as QEMU 7.2 has it.</summary>
public sealed class DriveJobTests : BlockJobBench
{
    static readonly Random s_random = new(5);

    /// <summary>base ← top, each with something of its own; a guest has top.</summary>
    void MakeChain()
    {
        Make("base");
        Plug("base");
        Write(0, 1, 1 << 20);
        Make("top", "base");
        Query("blockdev-snapshot", """{"node":"base","overlay":"top"}""");
        Write(512 << 10, 2, 256 << 10);
    }

    void WriteSome(int count = 100)
    {
        for (int i = 0; i < count; i++) Write(s_random.Next(Size / Block) * Block, (byte)s_random.Next(256));
    }

    string Root => Bench.OnLoop(() => Drive.Root!.FileName);

    [Theory]
    [InlineData("full", null)]
    [InlineData("top", "base")]
    [InlineData("none", "top")]
    public void A_mirror_makes_its_image_and_takes_the_place_of_the_disk(string sync, string? below)
    {
        MakeChain();
        Query("drive-mirror", $$"""{"device":"guest","target":"{{Path("copy")}}","sync":"{{sync}}"}""");
        WriteSome();
        Await(JobStatus.Ready, "guest");
        WriteSome();
        Query("block-job-complete", """{"device":"guest"}""");
        Await(JobStatus.Null, "guest");
        Assert.Equal(Path("copy"), Root);
        Assert.Equal(Model, Read());
        Assert.Equal(below, Bench.OnLoop(() => Drive.Root!.Below?.NodeName));
        Assert.Equal(below == null ? null : Path(below), Bench.OnLoop(() => Drive.Root!.Facts.BackingFile));
        WriteSome();
        Assert.Equal(Model, Read());
    }

    /// <summary>unmap=: whether zeros of the disk take room of the host.</summary>
    [Theory]
    [InlineData("true", 0, Size / 2)]
    [InlineData("false", Size, 2 * Size)]
    public void A_mirror_leaves_holes_where_it_may(string unmap, long least, long most)
    {
        MakeChain();
        Query("drive-mirror", $$"""
            {"device":"guest","target":"{{Path("copy")}}","sync":"full","format":"raw","unmap":{{unmap}} }
            """);
        Await(JobStatus.Ready, "guest");
        Query("block-job-cancel", """{"device":"guest"}""");
        Await(JobStatus.Null, "guest");
        using var stat = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("stat",
            ["--format=%b", Path("copy")]) { RedirectStandardOutput = true })!;
        Assert.InRange(512 * long.Parse(stat.StandardOutput.ReadToEnd()), least, most);
    }

    [Fact]
    public void A_mirror_that_is_cancelled_lets_go_of_its_image()
    {
        MakeChain();
        Query("drive-mirror",
            $$"""{"device":"guest","target":"{{Path("copy")}}","sync":"full","node-name":"made"}""");
        Await(JobStatus.Ready, "guest");
        Query("block-job-cancel", """{"device":"guest"}""");
        Await(JobStatus.Null, "guest");
        Assert.Equal("Failed to find node with node-name='made'", Error("blockdev-del", """{"node-name":"made"}"""));
        Query("blockdev-add",
            $$"""{"driver":"qcow2","node-name":"made","file":{"driver":"file","filename":"{{Path("copy")}}"} }""");
        Assert.Equal(Model, Contents("made"));
    }

    [Theory]
    [InlineData("full")]
    [InlineData("top")]
    public void A_backup_makes_its_image(string sync)
    {
        MakeChain();
        byte[] then = [.. Model];
        Query("drive-backup", $$"""{"device":"guest","target":"{{Path("copy")}}","sync":"{{sync}}","speed":1}""");
        WriteSome();
        Query("block-job-set-speed", """{"device":"guest","speed":0}""");
        Await(JobStatus.Null, "guest");
        Assert.Contains("BLOCK_JOB_COMPLETED", Told("guest"));
        Query("blockdev-add", $$"""
            {"driver":"qcow2","node-name":"c","file":{"driver":"file","filename":"{{Path("copy")}}"},
            "backing":{{(sync == "top" ? "\"base\"" : "null")}} }
            """);
        Assert.Equal(then, Contents("c"));
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void A_backup_of_what_is_overwritten_lies_over_the_disk()
    {
        MakeChain();
        byte[] then = [.. Model];
        Make("scratch");
        Query("blockdev-reopen", """
            {"options":[{"driver":"qcow2","node-name":"scratch","file":"scratch-file","backing":"top"}]}
            """);
        Query("blockdev-backup", """{"device":"top","job-id":"j","target":"scratch","sync":"none"}""");
        WriteSome();
        Assert.Equal(then, Contents("scratch"));
        Query("block-job-cancel", """{"device":"j"}""");
        Await(JobStatus.Null);
        Assert.Equal(Model, Read());
    }

    [Theory]
    [InlineData("full", "on-success", false, 65536)]               // what was written since the start
    [InlineData("full", "always", true, 4194304)]                  // and what was not copied
    [InlineData("full", "on-success", true, 131072)]               // as if there had been none
    [InlineData("bitmap", "never", false, 131072)]
    [InlineData("bitmap", "on-success", false, 65536)]
    public void A_bitmap_is_what_has_to_be_copied_next_time(string sync, string mode, bool isCancelled, int dirty)
    {
        Make("disk");
        Plug("disk");
        Make("copy");
        Query("block-dirty-bitmap-add", """{"node":"disk","name":"b"}""");
        Write(0, 1);
        byte[] then = [.. Model];
        Query("blockdev-backup", $$"""
            {"device":"disk","job-id":"j","target":"copy","sync":"{{sync}}","bitmap":"b","bitmap-mode":"{{mode}}",
            "auto-finalize":false}
            """);
        Await(JobStatus.Pending);
        Write(1 << 20, 2);
        Query(isCancelled ? "job-cancel" : "job-finalize", """{"id":"j"}""");
        Await(JobStatus.Null);
        Assert.Equal(then, Contents("copy"));
        // with always, all had been copied when it was cancelled
        int expected = mode == "always" ? 65536 : dirty;
        Assert.Contains($"\"count\":{expected},", Query("query-block"));
    }

    [Fact]
    public void Jobs_of_a_group_end_together_or_not_at_all()
    {
        MakeChain();
        Make("one");
        Make("two");
        const string backup = """
            {"type":"blockdev-backup","data":{"device":"DEVICE","job-id":"DEVICE","target":"TARGET","sync":"full",
            "speed":SPEED}}
            """;
        string first = backup.Replace("DEVICE", "top").Replace("TARGET", "one").Replace("SPEED", "0");
        string second = backup.Replace("DEVICE", "base").Replace("TARGET", "two");
        void Start(string speed) => Query("transaction", $$"""
            {"actions":[{{first}},{{second.Replace("SPEED", speed)}}],"properties":{"completion-mode":"grouped"} }
            """);
        Start("1");
        Await(JobStatus.Waiting, "top");
        Query("block-job-cancel", """{"device":"base"}""");
        Await(JobStatus.Null, "top");
        Await(JobStatus.Null, "base");
        Assert.Contains("BLOCK_JOB_CANCELLED", Told("top"));
        Forget();
        Start("0");
        Await(JobStatus.Null, "top");
        Await(JobStatus.Null, "base");
        Assert.Contains("BLOCK_JOB_COMPLETED", Told("top"));
        Assert.Equal(Model, Contents("one"));
        Assert.Equal("Action 'block-dirty-bitmap-clear' does not support Transaction property completion-mode = "
            + "grouped", Error("transaction", """
            {"actions":[{"type":"block-dirty-bitmap-clear","data":{"node":"top","name":"b"}}],
            "properties":{"completion-mode":"grouped"}}
            """));
    }

    [Fact]
    public void A_bitmap_that_was_made_in_the_same_transaction_says_what_is_copied()
    {
        MakeChain();
        Make("copy");
        Query("block-dirty-bitmap-add", """{"node":"top","name":"old"}""");
        Write(3 << 20, 9);
        Query("transaction", """
            {"actions":[{"type":"block-dirty-bitmap-add","data":{"node":"top","name":"sum","disabled":true}},
            {"type":"block-dirty-bitmap-merge",
            "data":{"node":"top","target":"sum","bitmaps":[{"node":"top","name":"old"}]}},
            {"type":"blockdev-backup","data":{"device":"top","job-id":"j","target":"copy","sync":"incremental",
            "bitmap":"sum"}}]}
            """);
        Await(JobStatus.Null);
        byte[] copy = Contents("copy");
        Assert.Equal((0, 9), (copy[0], copy[3 << 20]));
    }

    [Fact]
    public void An_image_keeps_a_state_of_the_running_disk()
    {
        MakeChain();
        Query("blockdev-snapshot-internal-sync", """{"device":"guest","name":"s"}""");
        Assert.Equal("Snapshot with name 's' already exists on device 'guest'",
            Error("blockdev-snapshot-internal-sync", """{"device":"guest","name":"s"}"""));
        Assert.Equal("Transaction aborted using Abort action", Error("transaction", """
            {"actions":[{"type":"blockdev-snapshot-internal-sync","data":{"device":"guest","name":"t"}},
            {"type":"abort","data":{}}]}
            """));
        Assert.DoesNotContain("\"name\":\"t\"", Query("query-block"));
        WriteSome();
        Assert.Equal(Model, Read());
        Assert.Equal("Snapshot with id '7' and name 's' does not exist on device 'guest'",
            Error("blockdev-snapshot-delete-internal-sync", """{"device":"guest","id":"7","name":"s"}"""));
        Assert.Contains("\"id\":\"1\",\"name\":\"s\"",
            Query("blockdev-snapshot-delete-internal-sync", """{"device":"guest","name":"s"}"""));
        Assert.Equal("", Bench.Human("snapshot_blkdev_internal guest x"));
        Assert.Equal("Error: Snapshot with id '9' and name 'x' does not exist on device 'guest'\n",
            Bench.Human("snapshot_delete_blkdev_internal guest x 9"));
        Assert.Equal("", Bench.Human("snapshot_delete_blkdev_internal guest x 1"));
    }

    [Theory]
    [InlineData("drive-mirror", """{"device":"nobody","target":"x","sync":"full"}""",
        "Cannot find device='nobody' nor node-name='nobody'")]
    [InlineData("drive-mirror", """{"device":"guest","target":"/nodir/x","sync":"full"}""",
        "Could not create '/nodir/x': No such file or directory")]
    [InlineData("drive-mirror", """{"device":"guest","target":"x","sync":"full","format":"foo"}""",
        "Unknown file format 'foo'")]
    [InlineData("drive-mirror", """{"device":"guest","target":"x","sync":"incremental"}""",
        "Sync mode 'incremental' not supported")]
    [InlineData("drive-mirror", """{"device":"guest","target":"x","sync":"none","format":"raw"}""",
        "Backing file not supported for file format 'raw'")]
    [InlineData("drive-mirror", """{"device":"guest","target":"x","sync":"full","node-name":"base"}""",
        "Duplicate nodes with node-name='base'")]
    [InlineData("drive-mirror", """{"device":"guest","target":"x","sync":"full","replaces":"foo"}""",
        "a node-name must be provided when replacing a named node of the graph")]
    [InlineData("drive-mirror", """{"device":"guest","target":"x","sync":"full","speed":-1}""",
        "Parameter 'speed' expects a non-negative value")]
    [InlineData("drive-backup", """{"device":"guest","target":"/nodir/x","sync":"bitmap"}""",
        "must provide a valid bitmap name for 'bitmap' sync mode")]
    [InlineData("drive-backup", """{"device":"guest","target":"/nodir/x","sync":"full","bitmap":"q"}""",
        "Bitmap sync mode must be given when providing a bitmap")]
    [InlineData("drive-backup",
        """{"device":"guest","target":"/nodir/x","sync":"bitmap","bitmap":"q","bitmap-mode":"never"}""",
        "Bitmap 'q' could not be found")]
    [InlineData("drive-backup",
        """{"device":"guest","target":"/nodir/x","sync":"incremental","bitmap":"q","bitmap-mode":"never"}""",
        "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'")]
    [InlineData("drive-backup",
        """{"device":"guest","target":"/nodir/x","sync":"full","bitmap":"q","bitmap-mode":"never"}""",
        "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'")]
    [InlineData("drive-backup",
        """{"device":"guest","target":"/nodir/x","sync":"none","bitmap":"q","bitmap-mode":"always"}""",
        "sync mode 'none' does not produce meaningful bitmap outputs")]
    [InlineData("drive-backup", """{"device":"guest","target":"/nodir/x","sync":"full","bitmap-mode":"always"}""",
        "Cannot specify bitmap sync mode without a bitmap")]
    [InlineData("blockdev-snapshot-internal-sync", """{"device":"guest","name":""}""", "Name is empty")]
    [InlineData("blockdev-snapshot-internal-sync", """{"device":"small","name":"s"}""",
        "Block format 'null-co' used by device 'small' does not support internal snapshots")]
    [InlineData("blockdev-snapshot-delete-internal-sync", """{"device":"guest"}""",
        "Name or id must be provided")]
    public void What_cannot_be_done_says_why(string command, string arguments, string message)
    {
        MakeChain();
        Query("blockdev-add", """{"driver":"null-co","node-name":"small","size":1048576}""");
        Assert.Equal(message, Error(command, arguments));
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void An_export_shows_bitmaps_by_their_names_or_their_nodes_and_names()
    {
        MakeChain();
        Query("block-dirty-bitmap-add", """{"node":"top","name":"b","disabled":true}""");
        Query("block-dirty-bitmap-add", """{"node":"base","name":"c","disabled":true}""");
        Query("nbd-server-start", $$"""{"addr":{"type":"unix","data":{"path":"{{Path("socket")}}"} } }""");
        string Export(string id, string bitmaps) =>
            $$"""{"type":"nbd","id":"{{id}}","node-name":"top","name":"{{id}}","bitmaps":[{{bitmaps}}]}""";
        Query("block-export-add", Export("e", """ "b",{"node":"base","name":"c"} """));
        Assert.Equal("Dirty bitmap 'x' not found",
            Error("block-export-add", Export("f", """{"node":"top","name":"x"}""")));
        Assert.Equal("Invalid parameter type for 'bitmaps', expected: BlockDirtyBitmapOrStr",
            Error("block-export-add", Export("f", """{"node":"top"}""")));
        Query("nbd-server-stop");
    }

    [Fact]
    public void The_human_monitor_starts_jobs_and_tells_of_them()
    {
        MakeChain();
        Assert.Equal("No active jobs\n", Bench.Human("info block-jobs"));
        Assert.Equal("", Bench.Human($"drive_mirror -f guest {Path("copy")}"));
        Await(JobStatus.Ready, "guest");
        Assert.Equal("Error: The block job for device 'guest' is currently paused\n",
            Bench.Human("block_job_pause guest") + Bench.Human("block_job_cancel guest"));
        Assert.Equal("Error: Job is already paused\n", Bench.Human("block_job_pause guest"));
        Assert.Equal("", Bench.Human("block_job_resume guest") + Bench.Human("block_job_set_speed guest 1000"));
        Assert.Equal("invalid size\nTry \"help block_job_set_speed\" for more information\n",
            Bench.Human("block_job_set_speed guest -5"));
        Assert.Matches("^Type mirror, device guest: Completed [0-9]+ of [0-9]+ bytes, speed limit 1048576000 bytes/s"
            + "\n$", Bench.Human("info block-jobs"));
        Assert.True(SpinWait.SpinUntil(() => Query("query-jobs").Contains("\"ready\"", StringComparison.Ordinal),
            TimeSpan.FromSeconds(60)));                            // it has seen that it goes on
        Assert.Equal("", Bench.Human("block_job_complete guest"));
        Await(JobStatus.Null, "guest");
        Assert.Equal("Error: Block job 'guest' not found\n", Bench.Human("block_job_complete guest"));
        Forget();
        Assert.Equal("", Bench.Human($"drive_backup -f guest {Path("backup")} qcow2"));
        Await(JobStatus.Null, "guest");
        Assert.Equal("drive_mirror: block device name expected\nTry \"help drive_mirror\" for more information\n",
            Bench.Human("drive_mirror"));
        Assert.Equal("drive_mirror: string expected\nTry \"help drive_mirror\" for more information\n",
            Bench.Human("drive_mirror guest"));
        Assert.Equal(Model, Read());
    }

    [Fact]
    public void What_a_drive_has_is_committed_by_the_human_monitor_and_its_image_is_empty_then()
    {
        MakeChain();
        Assert.Equal("", Bench.Human("commit guest"));
        Assert.Equal(Model, Read());
        Assert.Equal(Model, Contents("base"));
        Assert.Equal("top", Bench.OnLoop(() => Drive.Root!.NodeName));
        Assert.True(Bench.OnLoop(() => Bench.Host.BlockJobs.Find("base").IsReadOnly));
        WriteSome();
        Assert.Equal("", Bench.Human("commit all"));
        Assert.Equal(Model, Contents("base"));
        Assert.Equal("Device 'nobody' not found\n", Bench.Human("commit nobody"));
        Assert.Equal("'commit' error for 'disk': Operation not supported\n", Bench.Human("commit disk"));
        Assert.Equal("commit: block device name expected\nTry \"help commit\" for more information\n",
            Bench.Human("commit"));
    }
}
