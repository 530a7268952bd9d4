using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;

namespace Qkvm.Host.Sockets;

/// <summary>TLS over a socket: whoever reads and writes <see cref="Plain"/> talks to the other end. Between the two
/// bytes are carried on the thread pool, and both sides wait for each other by the kernel's bounds.</summary>
/// <remarks>Of memory it takes a piece for each direction, and what the library keeps of one record. The end of either
/// side ends both.</remarks>
public sealed class TlsRelay : IDisposable
{
    const int Piece = 16 * 1024;

    /// <summary>For the last words, once our side has ended.</summary>
    static readonly TimeSpan s_grace = TimeSpan.FromSeconds(1);

    readonly CancellationTokenSource _end = new();
    readonly Task _running;

    /// <param name="peer">Connected; from now on it is good for its names alone, and its maker's to dispose
    /// of.</param>
    /// <param name="host">As of <see cref="TlsCredentials"/>: a client's name for the server.</param>
    /// <param name="patience">For the handshake: one that takes longer ends the connection.</param>
    /// <param name="opened">The handshake is over. On any thread.</param>
    /// <param name="failed">It failed, and why; <see cref="Plain"/> ends. On any thread.</param>
    public TlsRelay(StreamSocket peer, TlsCredentials credentials, string? host, TimeSpan patience, Action opened,
        Action<string> failed)
    {
        (Plain, int inner) = StreamSocket.InheritablePair();
        var theirs = new Socket(new SafeSocketHandle(Libc.dup(peer.InputFd), ownsHandle: true));
        var ours = new Socket(new SafeSocketHandle(inner, ownsHandle: true));
        _running = Task.Run(() => RunAsync(theirs, ours, credentials, host, patience, opened, failed));
    }

    public StreamSocket Plain { get; }

    /// <summary>Our side has ended: the other end hears what was written, if it listens.</summary>
    public void End()
    {
        Plain.Dispose();
        _end.CancelAfter(s_grace);
    }

    /// <summary>The same, and waits for it.</summary>
    public void Dispose()
    {
        End();
        _running.Wait(s_grace + s_grace);
    }

    async Task RunAsync(Socket theirs, Socket ours, TlsCredentials credentials, string? host, TimeSpan patience,
        Action opened, Action<string> failed)
    {
        string? why = "the other end has gone";
        using (theirs)
        using (ours)
            try
            {
                await using var plain = new NetworkStream(ours);
                await using var secret = new SslStream(new NetworkStream(theirs, ownsSocket: false));
                using (var hurry = CancellationTokenSource.CreateLinkedTokenSource(_end.Token))
                {
                    hurry.CancelAfter(patience);
                    await credentials.ShakeHandsAsync(secret, host, hurry.Token).ConfigureAwait(false);
                }
                why = null;
                opened();
                Task inwards = CopyAsync(secret, plain), outwards = CopyAsync(plain, secret);
                await Task.WhenAny(inwards, outwards).ConfigureAwait(false);
                if (outwards.IsCompletedSuccessfully) await secret.ShutdownAsync().ConfigureAwait(false);
                await _end.CancelAsync().ConfigureAwait(false);
                await Task.WhenAll(inwards, outwards).ConfigureAwait(false);
            }
            catch (AuthenticationException e)
            {
                why = e.InnerException is { } inner and not AuthenticationException ? inner.Message : e.Message;
            }
            catch (OperationCanceledException) when (!_end.IsCancellationRequested)
            {
                why = "the other end does not finish its handshake";
            }
            // The other end may do what it likes: whatever it is, this connection is over.
            catch (Exception e) when (e is IOException or OperationCanceledException or SocketException
                or ObjectDisposedException or InvalidOperationException) { }
            finally
            {
                try { theirs.Shutdown(SocketShutdown.Both); }
                catch (SocketException) { }                        // the other end was first
                catch (ObjectDisposedException) { }
                if (why != null) failed(why);
            }
    }

    async Task CopyAsync(Stream from, Stream to)
    {
        var piece = new byte[Piece];
        while (await from.ReadAsync(piece, _end.Token).ConfigureAwait(false) is > 0 and int count)
            await to.WriteAsync(piece.AsMemory(0, count), _end.Token).ConfigureAwait(false);
    }
}
