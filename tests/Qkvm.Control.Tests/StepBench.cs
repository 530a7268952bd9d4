using System.Diagnostics;
using System.Net.Sockets;
using System.Text;

namespace Qkvm.Control.Tests;

/// <summary>How many single steps a second a debugger gets from a gdb stub on this machine: one packet out, one in, as
/// gdb's stepi without what gdb does itself. Works with any stub.</summary>
static class StepBench
{
    public static void Run(int port, int count, Action<string> print)
    {
        using Socket stub = Connect(port);
        Ask(stub, "qSupported:multiprocess+", true);
        bool acknowledges = Ask(stub, "QStartNoAckMode", true) != "OK";
        Ask(stub, "vCont;s:p1.1", acknowledges);
        var watch = Stopwatch.StartNew();
        for (int i = 0; i < count; i++)
        {
            string answer = Ask(stub, "vCont;s:p1.1", acknowledges);
            if (!answer.StartsWith("T05", StringComparison.Ordinal))
                throw new InvalidOperationException($"step {i}: {answer}");
        }
        print($"{count / watch.Elapsed.TotalSeconds:F0} steps/s");
    }

    static Socket Connect(int port)
    {
        const int attempts = 100, pause = 100;                     // milliseconds
        for (int i = 0; ; i++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                socket.Connect("127.0.0.1", port);
                return socket;
            }
            catch (SocketException) when (i < attempts)
            {
                socket.Dispose();
                Thread.Sleep(pause);
            }
        }
    }

    static string Ask(Socket stub, string packet, bool acknowledges)
    {
        stub.Send(Encoding.ASCII.GetBytes($"${packet}#{packet.Sum(c => c) & 0xFF:x2}"));
        var received = new StringBuilder();
        Span<byte> buffer = stackalloc byte[1024];
        while (true)
        {
            int count = stub.Receive(buffer);
            if (count == 0) throw new InvalidOperationException("the stub hung up");
            received.Append(Encoding.ASCII.GetString(buffer[..count]));
            string text = received.ToString();
            int start = text.IndexOf('$'), end = start < 0 ? -1 : text.IndexOf('#', start);
            if (end < 0 || end + 2 >= text.Length) continue;
            if (acknowledges) stub.Send("+"u8);
            return text[(start + 1)..end];
        }
    }
}
