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
}
