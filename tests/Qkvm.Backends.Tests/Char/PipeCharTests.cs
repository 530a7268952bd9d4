using System.Text;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Tests.Char;

public sealed class PipeCharTests : IDisposable
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-pipe-").FullName;
    readonly MachineLock _lock = new();
    readonly EventLoop _loop;
    readonly Thread _thread;

    public PipeCharTests()
    {
        _loop = new EventLoop(_lock.Run);
        _thread = new Thread(_loop.Run);
        _thread.Start();
    }

    public void Dispose()
    {
        _loop.Stop();
        _thread.Join();
        _loop.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    string Fifo(string name)
    {
        string path = Path.Combine(_directory, name);
        using var made = System.Diagnostics.Process.Start("mkfifo", path);
        made.WaitForExit();
        return path;
    }

    [Fact]
    public void One_fifo_leads_to_the_guest_and_one_from_it()
    {
        string input = Fifo("p.in"), output = Fifo("p.out");
        var guest = new Guest();
        PipeChar pipe;
        using (_lock.Hold())
        {
            pipe = new PipeChar("c", Path.Combine(_directory, "p"), _loop, "-chardev pipe");
            pipe.Connect(guest);
        }
        using (var writer = new FileStream(input, FileMode.Open, FileAccess.Write)) writer.Write("to the guest"u8);
        Assert.True(SpinWait.SpinUntil(() => guest.Text == "to the guest", Patience), guest.Text);
        using (_lock.Hold()) Assert.Equal(14, pipe.Write("from the guest"u8));
        using FileStream reader = new(output, FileMode.Open, FileAccess.ReadWrite);
        var bytes = new byte["from the guest".Length];
        reader.ReadExactly(bytes);
        Assert.Equal("from the guest", Encoding.ASCII.GetString(bytes));
        using (_lock.Hold()) pipe.Dispose();
    }

    [Fact]
    public void Without_fifos_one_line_says_how_to_make_them()
    {
        var e = Assert.Throws<ConfigurationException>(() =>
            new PipeChar("c", Path.Combine(_directory, "q"), _loop, "-chardev pipe,id=c"));
        Assert.Contains($"mkfifo {_directory}/q.in {_directory}/q.out", e.Message);
    }

    sealed class Guest : ICharFrontend
    {
        volatile string _text = "";

        public string Text => _text;
        public int Room => 4;
        public void Receive(ReadOnlySpan<byte> data) => _text += Encoding.ASCII.GetString(data);
    }
}
