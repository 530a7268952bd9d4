using System.Net.Sockets;
using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>Talks to a human monitor on a UNIX socket.</summary>
sealed class MonitorClient : IDisposable
{
    const string Prompt = "(qemu) ";

    readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);

    /// <summary>Connects as soon as there is a listener, and reads the banner.</summary>
    public MonitorClient(string path)
    {
        DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
        while (true)
            try
            {
                _socket.Connect(new UnixDomainSocketEndPoint(path));
                break;
            }
            catch (SocketException) when (DateTime.UtcNow < deadline) { Thread.Sleep(20); }
        _socket.ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds;
        Banner = ReadToPrompt();
    }

    public string Banner { get; }

    /// <summary>Runs a command.</summary>
    /// <returns>What it printed, without the echo of the command and the prompt.</returns>
    public string Run(string command)
    {
        SendLine(command);
        string reply = ReadToPrompt();
        int echo = reply.IndexOf('\n');
        return echo < 0 ? "" : reply[(echo + 1)..].Trim();
    }

    /// <summary>For a command after which the connection ends.</summary>
    public void SendLine(string command) => _socket.Send(Encoding.UTF8.GetBytes(command + "\n"));

    public void Dispose() => _socket.Dispose();

    string ReadToPrompt()
    {
        var text = new StringBuilder();
        var buffer = new byte[4096];
        while (!text.ToString().EndsWith(Prompt, StringComparison.Ordinal))
        {
            int count = _socket.Receive(buffer);
            if (count == 0) Assert.Fail($"the monitor hung up after:\n{text}");
            text.Append(Encoding.UTF8.GetString(buffer, 0, count));
        }
        return text.ToString()[..^Prompt.Length].Replace("\r", "", StringComparison.Ordinal);
    }
}
