using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>The human monitor as people at a terminal have it: telnet, one byte after the other.</summary>
public sealed class TelnetTests
{
    const string Prompt = "(qemu) ", Up = "\u001B[A", Left = "\u001B[D", Home = "\u0001", Cut = "\u000B", Tab = "\t";

    /// <summary>They end the machine, wait, listen or write files.</summary>
    static readonly string[] s_others = ["quit", "gdbserver", "logfile", "memsave", "pmemsave", "screendump", "c",
        "dump-guest-memory"];

    [ProgramFact]
    public void Each_command_answers_and_the_prompt_returns()
    {
        using GuestProcess machine = Start(out int port);
        using var telnet = new TelnetClient(port);
        Assert.Contains("type 'help' for more information", telnet.Wait(Prompt));
        Assert.Equal([1, 3], telnet.Offered.Order().Intersect([1, 3]));   // the far end echoes, and no go-ahead
        string help = telnet.Run("help");
        string[] commands = [.. help.Split("\r\n").Where(line => line.Contains(" -- ") && char.IsAsciiLetter(line[0]))
            .Select(line => line.Split(' ')[0].Split('|')[0])];
        string[] items = [.. telnet.Run("info").Split("\r\n").Where(line => line.StartsWith("info "))
            .Select(line => $"info {line.Split(' ')[1]}")];
        Assert.InRange(commands.Length, 60, 200);
        Assert.InRange(items.Length, 40, 100);
        foreach (string command in commands.Except(s_others).Concat(items))
        {
            string answer = telnet.Run(command);
            Assert.DoesNotContain("unknown command", answer);
            if (command == "info") continue;                       // whose help is the list
            Assert.StartsWith(command.Split(' ')[^1], telnet.Run($"help {command}").Replace("info ", ""));
        }
        Assert.Contains("VM status: ", telnet.Run("info status"));
        telnet.Type("quit\r");
        Assert.Equal(0, machine.WaitExit());
    }

    [ProgramFact]
    public void Lines_are_edited_repeated_and_completed()
    {
        using GuestProcess machine = Start(out int port);
        using var telnet = new TelnetClient(port);
        telnet.Wait(Prompt);
        Assert.Contains("42\r\n", telnet.Run("print 40+2"));
        Assert.Contains("42\r\n", telnet.Run(Up));
        Assert.Contains("43\r\n", telnet.Run($"{Up}\b3"));
        Assert.Contains("143\r\n", telnet.Run($"{Up}{Left}{Left}{Left}{Left}1"));
        Assert.Contains("7\r\n", telnet.Run($"nonsense{Home}{Cut}print 7"));
        Assert.Contains("VM status: ", telnet.Run($"info statu{Tab}"));
        telnet.Type($"info b{Tab}");
        string words = telnet.Wait("info b");
        while (!words.Contains("balloon")) words += telnet.Wait("info b");
        Assert.Contains("blockstats", words);
        telnet.Type("\u0015\u0001\u000B\r");
        telnet.Wait(Prompt);
        Assert.Contains("0: 'print 40+2'", telnet.Run("info history"));
    }

    /// <summary>hostile-input: commands of the protocol in pieces and without end, probes that send nothing, ends
    /// without a goodbye.</summary>
    [ProgramFact]
    public void Whatever_clients_do_the_next_one_gets_its_monitor()
    {
        using GuestProcess machine = Start(out int port);
        using (var telnet = new TelnetClient(port))
        {
            telnet.Wait(Prompt);
            byte[] negotiation = [255, 251, 31, 255, 250, 31, 0, 80, 255, 255, 0, 24, 255, 240];
            foreach (byte b in negotiation) telnet.Send([b]);
            Assert.Contains("42\r\n", telnet.Run("print 42"));
            telnet.Send([.. "print 4"u8, 13, 0]);                  // CR NUL is the return key
            Assert.Contains("4\r\n", telnet.Wait(Prompt));
            telnet.Send([255, 255, 21, 13]);                       // IAC IAC is a byte, which ctrl-u rubs out
            telnet.Wait(Prompt);
            telnet.Send([255, 250, 31]);                           // no end
        }
        for (int i = 0; i < 50; i++)
        {
            using var probe = new TcpClient();
            probe.Connect(IPAddress.Loopback, port);
            if (i % 2 == 0) probe.LingerState = new LingerOption(true, 0);   // RST
            if (i % 3 == 0) probe.Client.Send("info "u8);
        }
        using var last = new TelnetClient(port);
        last.Wait(Prompt);
        Assert.Contains("VM status: ", last.Run("info status"));
        Assert.InRange(Directory.GetFiles($"/proc/{machine.Id}/fd").Length, 5, 60);
    }

    static GuestProcess Start(out int port)
    {
        using var free = new TcpListener(IPAddress.Loopback, 0);
        free.Start();
        port = ((IPEndPoint)free.LocalEndpoint).Port;
        free.Stop();
        return GuestProcess.Start("-accel", "tcg", "-display", "none", "-S", "-serial", "null", "-monitor",
            $"telnet:127.0.0.1:{port},server=on,wait=off");
    }

    /// <summary>Takes the protocol's commands out and refuses what is offered but echo and no go-ahead.</summary>
    sealed class TelnetClient : IDisposable
    {
        const byte Iac = 255, Do = 253, Will = 251;

        readonly TcpClient _client = new();
        readonly StringBuilder _text = new();

        public TelnetClient(int port)
        {
            for (DateTime deadline = DateTime.UtcNow + Surroundings.Patience; !_client.Connected;)
                try { _client.Connect(IPAddress.Loopback, port); }
                catch (SocketException) when (DateTime.UtcNow < deadline) { Thread.Sleep(20); }
            _client.ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds;
        }

        public List<int> Offered { get; } = [];

        public void Dispose() => _client.Dispose();

        public void Send(byte[] bytes) => _client.Client.Send(bytes);

        public void Type(string keys)
        {
            foreach (char key in keys) Send([(byte)key]);
        }

        public string Run(string line)
        {
            Type(line);
            Type("\r");
            return AfterEcho(Wait("\n" + Prompt));
        }

        static string AfterEcho(string text) => text[(text.IndexOf('\n') + 1)..];

        /// <summary>What comes up to there.</summary>
        public string Wait(string end)
        {
            while (true)
            {
                string text = _text.ToString();
                int at = text.IndexOf(end, StringComparison.Ordinal);
                if (at >= 0)
                {
                    _text.Remove(0, at + end.Length);
                    return text[..(at + end.Length)];
                }
                int next = _client.GetStream().ReadByte();
                Assert.True(next >= 0, $"the monitor hung up after: {text}");
                if (next != Iac) { _text.Append((char)next); continue; }
                int command = _client.GetStream().ReadByte();
                if (command < Will) continue;
                int option = _client.GetStream().ReadByte();
                if (command == Will) Offered.Add(option);
                if (command == Will && option is 1 or 3) Send([Iac, Do, (byte)option]);
            }
        }
    }
}
