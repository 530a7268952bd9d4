namespace Qkvm.Host.Sockets;

/// <summary>The plain side of a socket that talks TLS, and the owner of all that lies below it.</summary>
/// <param name="peer">Connected; from now on this one's.</param>
/// <param name="patience">For the handshake.</param>
/// <param name="opened">The handshake is over. On any thread.</param>
/// <param name="failed">It failed, and why. On any thread.</param>
public sealed class TlsTransport(StreamSocket peer, TlsCredentials credentials, TimeSpan patience, Action opened,
    Action<string> failed) : ITransport
{
    readonly TlsRelay _relay = new(peer, credentials, null, patience, opened, failed);

    public int InputFd => _relay.Plain.InputFd;
    public int OutputFd => _relay.Plain.OutputFd;

    public int Read(Span<byte> buffer) => _relay.Plain.Read(buffer);
    public int Write(ReadOnlySpan<byte> data) => _relay.Plain.Write(data);

    public void Dispose()
    {
        _relay.End();                                              // what was written still goes out
        peer.Dispose();
    }
}
