using System.Buffers.Binary;
using Qkvm.Backends.Char;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Tpm;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Tpm;

/// <summary>-tpmdev emulator: swtpm executes the TPM's commands, reached by the socket of a chardev.</summary>
/// <remarks>What waits for the program runs on the thread pool, one thing after the other. A program that breaks the
/// protocol, does not answer or leaves is asked nothing more, and every command fails. Deviations: it is not looked for
/// again, whatever the chardev's reconnect says; what it keeps of its own is no part of the machine's state.</remarks>
public sealed class TpmEmulator : ITpm, IDisposable
{
    public static readonly TpmModel Model = new("emulator",
        [Property.Chardev(help: "a UNIX socket, by which swtpm is reached")],
        static (given, host) =>
        {
            string id = given.Text("chardev") ?? throw given.Error("parameter 'chardev' is missing; give -chardev "
                + "socket,id=c,path=SOCKET and chardev=c");
            ICharBackend chardev = host.Backends.TakeChardev(id, given.Owner);
            try
            {
                if (chardev.Stream is not SocketChar { IsFramed: false } socket)
                    throw given.Error($"chardev \"{id}\" is not a UNIX socket; give -chardev socket,id={id},path=…");
                return new TpmEmulator(given, socket, host);
            }
            catch
            {
                host.Backends.ReleaseChardev(id);
                throw;
            }
        }) { Description = "swtpm, another process, is the TPM" };

    const int SmallestBuffer = 1024, LargestBuffer = 4096;
    const int Goodbye = 2000;                                      // milliseconds to take leave

    const SwtpmCapabilities Needed = SwtpmCapabilities.Init | SwtpmCapabilities.Shutdown
        | SwtpmCapabilities.GetTpmEstablished | SwtpmCapabilities.SetLocality | SwtpmCapabilities.SetDataFd
        | SwtpmCapabilities.Stop | SwtpmCapabilities.SetBufferSize;
    const SwtpmCapabilities Needed20 = SwtpmCapabilities.CancelTpmCommand | SwtpmCapabilities.ResetTpmEstablished;

    readonly IBackendHost _host;
    readonly SocketChar _chardev;
    readonly SwtpmChannel _channel;
    readonly Lock _gate = new();
    readonly byte[] _answer = new byte[LargestBuffer];             // used in work alone
    Task _work = Task.CompletedTask;                               // the last of what waits for the program
    volatile bool _isDead, _isEstablished;
    volatile int _powerUp;                                         // how many: answers from before the last are lost
    byte? _locality;                                               // that the program knows; used in work alone
    bool _isDisposed;

    TpmEmulator(Properties given, SocketChar chardev, IBackendHost host)
    {
        (Id, _chardev, _host) = (given.Required("id"), chardev, host);
        SwtpmChannel? first = null;
        chardev.Lend(socket =>
        {
            if (first == null) first = new SwtpmChannel(socket);
            else socket.Dispose();
        });
        _channel = first!;
        try
        {
            _channel.OpenData();
            Version = Probe();
            CheckCapabilities();
        }
        catch (SwtpmException e)
        {
            _channel.Dispose();
            throw given.Error($"swtpm at {chardev.Description}: {e.Message}", e);
        }
    }

    public string Id { get; }
    public string Type => Model.Name;
    public string Chardev => _chardev.Id;
    public TpmVersion Version { get; }
    public bool IsEstablished => _isEstablished;

    public void Start(int bufferSize)
    {
        _powerUp++;
        Cancel();
        Do(() =>
        {
            Span<byte> flags = stackalloc byte[sizeof(uint)], sizes = stackalloc byte[3 * sizeof(uint)];
            flags.Clear();
            _channel.Ask(SwtpmRequest.Stop, [], []);
            SetBufferSize(bufferSize, sizes);
            _channel.Ask(SwtpmRequest.Init, flags, []);
            _locality = null;
            LookWhetherEstablished();
        });
    }

    public void Execute(byte locality, ReadOnlySpan<byte> command, Action<ReadOnlyMemory<byte>> answered)
    {
        byte[] sent = TpmCommand.IsWhole(command) ? command.ToArray() : [];
        int powerUp = _powerUp;
        Do(() =>
        {
            int length = 0;
            try
            {
                if (!_isDead && powerUp == _powerUp && sent.Length > 0) length = Execute(locality, sent);
            }
            finally
            {
                byte[] answer = length > 0 ? _answer.AsSpan(0, length).ToArray() : TpmCommand.Failure(Version);
                _host.Loop.Post(() =>
                {
                    if (powerUp == _powerUp && !_isDisposed) answered(answer);
                });
            }
        }, evenIfDead: true);
    }

    /// <summary>Beside the command in flight, not after it.</summary>
    public void Cancel()
    {
        lock (_gate)
            if (_work.IsCompleted || _isDead) return;
        Task.Run(() =>
        {
            try { _channel.Ask(SwtpmRequest.CancelTpmCommand, [], []); }
            catch (SwtpmException) { }                             // it had just ended, or the next request finds out
        });
    }

    public void ResetEstablished(byte locality) => Do(() =>
    {
        try { _channel.Ask(SwtpmRequest.ResetTpmEstablished, [locality], []); }
        catch (SwtpmRefusal) { }                                   // to this locality
        LookWhetherEstablished();
    });

    /// <summary>Under the machine lock, when the machine has gone.</summary>
    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;
        _powerUp++;
        _channel.HangUp();
        Do(() =>
        {
            try { if (!_isDead) _channel.Ask(SwtpmRequest.Shutdown, [], []); }
            finally { _channel.Dispose(); }
        }, evenIfDead: true).Wait(Goodbye);
        _host.Backends.ReleaseChardev(_chardev.Id);
    }

    int Execute(byte locality, byte[] command)
    {
        if (_locality != locality)
        {
            try { _channel.Ask(SwtpmRequest.SetLocality, [locality], []); }
            catch (SwtpmRefusal) { return 0; }                     // it may forbid one; the guest's others go on
        }
        _locality = locality;
        return _channel.Execute(command, _answer);
    }

    void SetBufferSize(int size, Span<byte> sizes)
    {
        Span<byte> wanted = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteInt32BigEndian(wanted, size);
        _channel.Ask(SwtpmRequest.SetBufferSize, wanted, sizes);
        uint used = BinaryPrimitives.ReadUInt32BigEndian(sizes);
        if (used < SmallestBuffer || used > (uint)size)
            throw new SwtpmException($"it wants buffers of {used} bytes, where {SmallestBuffer} to {size} are "
                + "possible");
    }

    void LookWhetherEstablished()
    {
        Span<byte> bit = stackalloc byte[sizeof(uint)];            // one byte, and padding
        _channel.Ask(SwtpmRequest.GetTpmEstablished, [], bit);
        _isEstablished = bit[0] != 0;
    }

    /// <summary>The tag of an answer tells the version, whatever the answer is.</summary>
    TpmVersion Probe()
    {
        ReadOnlySpan<byte> readClock = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81],  // TPM2_ReadClock
            getTicks = [0x00, 0xC1, 0, 0, 0, 10, 0, 0, 0, 0xF1];   // TPM_GetTicks
        if (Tag(readClock) == TpmCommand.Answer20) return TpmVersion.V20;
        return Tag(getTicks) == TpmCommand.Answer12 ? TpmVersion.V12
            : throw new SwtpmException("its commands are neither of TPM 1.2 nor of 2.0");
    }

    ushort Tag(ReadOnlySpan<byte> command)
    {
        _channel.Execute(command, _answer);
        return BinaryPrimitives.ReadUInt16BigEndian(_answer);
    }

    void CheckCapabilities()
    {
        Span<byte> answer = stackalloc byte[sizeof(uint)];
        _channel.Ask(SwtpmRequest.GetCapability, [], answer);
        SwtpmCapabilities missing = (Version == TpmVersion.V20 ? Needed | Needed20 : Needed)
            & ~(SwtpmCapabilities)BinaryPrimitives.ReadUInt32BigEndian(answer);
        if (missing != 0) throw new SwtpmException($"it cannot {missing}; use a newer one");
    }

    /// <summary>What waits for the program, after all that was asked before; one that fails is asked nothing
    /// more.</summary>
    Task Do(Action work, bool evenIfDead = false)
    {
        lock (_gate)
            return _work = _work.ContinueWith(_ =>
            {
                if (_isDead && !evenIfDead) return;
                try { work(); }
                catch (SwtpmException e)
                {
                    _isDead = true;
                    _host.Loop.Post(() =>
                    {
                        if (!_isDisposed) _host.Warn($"-tpmdev {Type},id={Id}: swtpm: {e.Message}; the guest's TPM "
                            + "fails from now on");
                    });
                }
            }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
    }
}
