using System.IO.Pipes;

namespace Qkvm.Host.Tests;

public sealed class EventLoopTests : IDisposable
{
    readonly EventLoop _loop = new(static action => action());
    readonly List<string> _seen = [];

    public void Dispose() => _loop.Dispose();

    [Fact]
    public void Posted_work_runs_in_order_until_the_loop_is_stopped()
    {
        _loop.Post(() => _seen.Add("first"));
        _loop.Post(() => { _seen.Add("second"); _loop.Stop(); });
        _loop.Run();
        Assert.Equal(["first", "second"], _seen);
    }

    [Fact]
    public void Work_posted_by_another_thread_wakes_the_loop()
    {
        var poster = new Thread(() => _loop.Post(_loop.Stop));
        _loop.Post(poster.Start);
        _loop.Run();
        poster.Join();
    }

    [Fact]
    public void A_descriptor_calls_back_when_there_is_something_to_read_and_no_more_when_unwatched()
    {
        using var writer = new AnonymousPipeServerStream(PipeDirection.Out);
        int fd = (int)writer.ClientSafePipeHandle.DangerousGetHandle();
        writer.Write("x"u8);
        _loop.Watch(fd, FdEvents.Readable, events =>
        {
            _seen.Add($"{events & FdEvents.Readable}");
            // the byte stays: level triggered, it would call again
            _loop.Unwatch(fd);
            _loop.Post(() => _loop.Post(_loop.Stop));
        });
        _loop.Run();
        Assert.Equal(["Readable"], _seen);
    }

    [Fact]
    public void A_regular_file_is_always_ready()
    {
        using var file = new FileStream(Path.GetTempFileName(), FileMode.Open, FileAccess.Read, FileShare.Read, 0,
            FileOptions.DeleteOnClose);
        _loop.Watch((int)file.SafeFileHandle.DangerousGetHandle(), FdEvents.Readable, _ => _loop.Stop());
        _loop.Run();
    }

    [Fact]
    public void Timers_are_asked_before_each_wait_and_end_it()
    {
        int asked = 0;
        _loop.Timers = () =>
        {
            if (++asked == 3) _loop.Stop();
            return 1_000;
        };
        _loop.Run();
        Assert.Equal(3, asked);
    }

    [Fact]
    public void A_polled_source_is_looked_at_while_it_has_work_and_asked_before_sleep()
    {
        var source = new Source(_loop) { Left = 3 };
        _loop.AddPolled(source);
        _loop.Run();
        Assert.Equal((0, 1), (source.Left, source.Sleeps));
    }

    [Fact]
    public void Posting_to_a_loop_that_is_awake_is_seen_without_a_wake_up()
    {
        int seen = 0;
        void Next()
        {
            if (++seen < 1000) _loop.Post(Next);
            else _loop.Stop();
        }
        _loop.Post(Next);
        _loop.Run();
        Assert.Equal(1000, seen);
    }

    [Fact]
    public void Threads_that_post_at_once_wake_a_loop_that_falls_asleep_again_and_again()
    {
        const int Posts = 20_000;
        int seen = 0;
        void Count()
        {
            if (++seen == 2 * Posts) _loop.Stop();
        }
        Thread[] posters =
            [.. Enumerable.Range(0, 2)
            .Select(_ => new Thread(() => { for (int i = 0; i < Posts; i++) _loop.Post(Count); }))];
        foreach (Thread poster in posters) poster.Start();
        _loop.Run();
        Assert.Equal(2 * Posts, seen);
        foreach (Thread poster in posters) poster.Join();
    }

    /// <summary>Ends the loop when it sleeps for the first time.</summary>
    sealed class Source(EventLoop loop) : IPolled
    {
        public int Left { get; set; }
        public int Sleeps { get; private set; }

        public bool Poll() => Left > 0 && Left-- > 0;

        public bool BeforeSleep()
        {
            Sleeps++;
            loop.Stop();
            return false;
        }
    }
}
