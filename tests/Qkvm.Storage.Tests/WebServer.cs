using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Qkvm.Storage.Tests;

/// <summary>Answers each request, whose lines it gets, with bytes; an empty answer hangs up.</summary>
/// <param name="certificate">Its own: it speaks https.</param>
sealed class WebServer : IDisposable
{
    readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    readonly Func<string[], byte[]> _answer;
    readonly X509Certificate2? _certificate;

    public WebServer(Func<string[], byte[]> answer, X509Certificate2? certificate = null)
    {
        (_answer, _certificate) = (answer, certificate);
        _listener.Start();
        _ = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;
    public string Url => _certificate == null ? $"http://{_listener.LocalEndpoint}/disk"
        : $"https://localhost:{Port}/disk";
    public int Clients { get; private set; }
    public List<string> Requests { get; } = [];

    public void Dispose() => _listener.Dispose();

    async Task AcceptAsync()
    {
        try
        {
            while (true) _ = ServeAsync(await _listener.AcceptTcpClientAsync());
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException) { }
    }

    async Task ServeAsync(TcpClient client)
    {
        Clients++;
        using (client)
            try
            {
                await using Stream stream = await StreamOf(client);
                using var reader = new StreamReader(stream, Encoding.ASCII);
                while (true)
                {
                    var lines = new List<string>();
                    while (await reader.ReadLineAsync() is { Length: > 0 } line) lines.Add(line);
                    if (lines.Count == 0) return;
                    lock (Requests) Requests.Add(string.Join('\n', lines));
                    byte[] answer = _answer([.. lines]);
                    if (answer.Length == 0) return;
                    await stream.WriteAsync(answer);
                }
            }
            catch (Exception e) when (e is IOException or AuthenticationException) { }
    }

    async Task<Stream> StreamOf(TcpClient client)
    {
        if (_certificate == null) return client.GetStream();
        var secret = new SslStream(client.GetStream());
        await secret.AuthenticateAsServerAsync(_certificate);
        return secret;
    }
}
