using Qkvm.Backends.Char;
using Qkvm.Backends.Tests.Net;
using Qkvm.Backends.Tpm;
using Qkvm.Core.Configuration;
using Qkvm.Core.Tpm;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tests.Tpm;

/// <summary>-tpmdev emulator with a program that speaks swtpm's protocol, and with some that lie.</summary>
public sealed class TpmEmulatorTests : IDisposable
{
    const string Failed20 = "80010000000A00000101", Failed12 = "00C40000000A00000009";

    static readonly byte[] Command = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];

    readonly TestLoop _loop = new();
    readonly FakeHost _host;
    FakeSwtpm? _peer;
    SocketChar? _chardev;
    TpmEmulator? _tpm;

    public TpmEmulatorTests() => _host = new FakeHost(_loop.Loop);

    public void Dispose()
    {
        _loop.Do(() =>
        {
            _tpm?.Dispose();
            _chardev?.Dispose();
        });
        _peer?.Dispose();
        _loop.Dispose();
    }

    TpmEmulator Open(Func<StreamSocket, FakeSwtpm> make)
    {
        (StreamSocket ours, int theirs) = StreamSocket.InheritablePair();
        _peer = make(ours);
        _loop.Do(() =>
        {
            _chardev = (SocketChar)SocketChar.Model.Create(new Properties(SocketChar.Model,
                Options.Parse($"id=c,fd={theirs}", "-chardev socket")), _host);
            _host.Backends.Chardevs["c"] = _chardev;
        });
        return _tpm = _loop.Do(() => (TpmEmulator)TpmEmulator.Model.Create(new Properties(TpmEmulator.Model,
            Options.Parse("id=t,chardev=c", "-tpmdev emulator,id=t")), _host));
    }

    TpmEmulator Started(int bufferSize = 4096)
    {
        TpmEmulator tpm = Open(static socket => new FakeSwtpm(socket));
        _loop.Do(() => tpm.Start(bufferSize));
        return tpm;
    }

    string Execute(byte[] command, byte locality = 0)
    {
        string? answer = null;
        _loop.Do(() => _tpm!.Execute(locality, command, got => answer = Convert.ToHexString(got.Span)));
        _loop.Await(() => answer != null);
        return answer!;
    }

    string[] Heard()
    {
        lock (_peer!.Heard) return [.. _peer.Heard];
    }

    [Fact]
    public void It_is_powered_up_and_executes_commands()
    {
        TpmEmulator tpm = Started(3968);
        Assert.Equal(TpmVersion.V20, tpm.Version);
        Assert.Equal(Convert.ToHexString(Command), Execute(Command));
        Execute(Command);
        Execute(Command, 3);
        string sent = Convert.ToHexString(Command);
        Assert.Equal(["16", "80010000000A00000181", "1", "14", "17 3968", "2 0", "4", "5 0", sent, sent, "5 3", sent],
            Heard());
        Assert.True(tpm.IsEstablished);
        _loop.Do(tpm.Dispose);
        Assert.Equal("3", Heard()[^1]);
    }

    [Fact]
    public void The_dynamic_launch_is_forgotten_by_the_locality_that_asks()
    {
        TpmEmulator tpm = Started();
        _loop.Do(() => tpm.ResetEstablished(3));
        Execute(Command);
        Assert.Contains("11 3", Heard());
    }

    [Fact]
    public void A_TPM_1_2_is_told_by_its_tag_and_fails_in_its_own_words()
    {
        TpmEmulator tpm = Open(static socket => new FakeSwtpm(socket) { Tag = 0xC4 });
        Assert.Equal(TpmVersion.V12, tpm.Version);
        Assert.Equal(Failed12, Execute([1, 2, 3]));
    }

    [Theory]
    [InlineData("8001FFFFFFFF00000000")]                           // longer than any buffer
    [InlineData("80010000000900000000")]                           // shorter than its header
    [InlineData("")]                                               // it has gone
    public void A_program_that_lies_or_leaves_is_asked_no_more(string lie)
    {
        Started();
        Execute(Command);
        _peer!.Lie = _ => Convert.FromHexString(lie);
        Assert.Equal(Failed20, Execute(Command));
        int heard = Heard().Length;
        Assert.Equal(Failed20, Execute(Command));
        _loop.Do(() => _tpm!.Start(4096));
        Assert.Equal(Failed20, Execute(Command));
        Assert.Equal(heard, Heard().Length);
        Assert.Contains("the guest's TPM fails from now on", Assert.Single(_host.Warnings));
    }

    [Fact]
    public void Commands_of_another_length_than_they_say_never_reach_the_program()
    {
        Started();
        Assert.Equal(Failed20, Execute([.. Command, 0]));
        Assert.Equal(Failed20, Execute(Command[..^1]));
        Assert.Equal(Failed20, Execute([]));
        Assert.Equal(Convert.ToHexString(Command), Execute(Command));
    }

    [Fact]
    public void A_locality_that_is_refused_fails_alone()
    {
        Started();
        Execute(Command);
        _peer!.Result = request => request == 5 ? 0x3Du : 0;
        Assert.Equal(Failed20, Execute(Command, 4));
        Assert.Equal(Convert.ToHexString(Command), Execute(Command));
        Assert.Empty(_host.Warnings);
    }

    [Fact]
    public void Cancelling_overtakes_the_command_in_flight()
    {
        Started();
        using var cancelled = new ManualResetEventSlim();
        string? answer = null;
        // The program is within the command, and reads no control connection: the request lies there when it looks.
        _peer!.Lie = _ =>
        {
            cancelled.Wait();
            return null;
        };
        _loop.Do(() => _tpm!.Execute(0, Command, got => answer = Convert.ToHexString(got.Span)));
        Assert.True(SpinWait.SpinUntil(() => Heard().Contains(Convert.ToHexString(Command)), TimeSpan.FromMinutes(1)));
        _loop.Do(_tpm!.Cancel);
        cancelled.Set();
        _loop.Await(() => answer != null);
        Assert.True(SpinWait.SpinUntil(() => Heard().Contains("9"), TimeSpan.FromMinutes(1)));
        _peer.Lie = static _ => null;
        Assert.Equal(Convert.ToHexString(Command), Execute(Command));
    }

    [Theory]
    [InlineData(0x1234, 0xFFFFu, "neither of TPM 1.2 nor of 2.0")]
    [InlineData(0x8001, 0xEFFFu, "it cannot SetDataFd")]
    [InlineData(0x8001, 0xFFDFu, "it cannot CancelTpmCommand")]
    public void What_cannot_be_used_is_refused(int tag, uint capabilities, string why)
    {
        string message = Assert.Throws<ConfigurationException>(() => Open(socket =>
            new FakeSwtpm(socket) { Tag = (ushort)tag, Capabilities = capabilities })).Message;
        Assert.StartsWith("-tpmdev emulator,id=t: swtpm at ", message);
        Assert.Contains(why, message);
        Assert.Null(_host.Backends.OwnerOfChardev("c"));
    }
}
