using System.Globalization;
using System.Text;
using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Gdb;

public sealed partial class GdbSession
{
    const string ReadFeatures = "qXfer:features:read:";

    void Query(string text)
    {
        int end = text.IndexOfAny([':', ',', ';', '=']);
        string name = end < 0 ? text : text[..end], rest = end < 0 ? "" : text[(end + 1)..];
        switch (name)
        {
            case "qSupported": Agree(rest); break;
            case "QStartNoAckMode":
                Reply(GdbProtocol.Ok);
                _reader.ChecksSums = false;
                break;
            case "qXfer" when text.StartsWith(ReadFeatures, StringComparison.Ordinal):
                Transfer(text[ReadFeatures.Length..]);
                break;
            case "qfThreadInfo":
                Reply("m" + string.Join(',', _machine.Cpus.Select(cpu => ThreadId.Of(cpu.Index, _multiprocess))));
                break;
            case "qsThreadInfo": Reply("l"); break;
            case "qC": Reply("QC" + ThreadId.Of(_looksAt.Index, _multiprocess)); break;
            case "qThreadExtraInfo": Describe(rest); break;
            case "qAttached": Reply("1"); break;
            case "qRcmd": RunCommand(rest); break;
            case "qqemu.sstepbits":
                Reply($"ENABLE={SstepEnable:x},NOIRQ={SstepNoIrq:x},NOTIMER={SstepNoTimer:x}");
                break;
            case "qqemu.sstep": Reply($"0x{_sstep:x}"); break;
            case "Qqemu.sstep": Reply(TrySetSstep(rest) ? GdbProtocol.Ok : GdbProtocol.Invalid); break;
            case "qqemu.PhyMemMode": Reply(_isPhysical ? "1" : "0"); break;
            case "Qqemu.PhyMemMode":
                if (rest is "0" or "1") _isPhysical = rest == "1";
                Reply(rest is "0" or "1" ? GdbProtocol.Ok : GdbProtocol.Invalid);
                break;
            case "qqemu.Supported": Reply("sstepbits;sstep;PhyMemMode"); break;
            default: Reply(GdbProtocol.NotKnown); break;
        }
    }

    void Agree(string features)
    {
        string[] client = features.Split(';');
        _multiprocess = client.Contains("multiprocess+");
        _tellsSoftware = client.Contains("swbreak+");
        _tellsHardware = client.Contains("hwbreak+");
        Reply($"PacketSize={GdbProtocol.PacketSize:x};qXfer:features:read+;vContSupported+;multiprocess+;"
            + "QStartNoAckMode+;swbreak+;hwbreak+");
    }

    /// <summary>annex:offset,length of the target description; m before a part, l before the last.</summary>
    void Transfer(string text)
    {
        string[] parts = text.Split(':', 2);
        if (parts[0] != "target.xml") { Reply(GdbProtocol.NoSuchAnnex); return; }
        byte[] xml = TargetDescription.Xml;
        if (parts.Length < 2 || !GdbProtocol.TryPair(parts[1], ',', out ulong at, out ulong length)
            || at > (ulong)xml.Length)
        {
            Reply(GdbProtocol.Invalid);
            return;
        }
        const int most = GdbProtocol.PacketSize / 2;               // all might have to be escaped
        int count = (int)Math.Min(Math.Min(length, most), (ulong)xml.Length - at);
        bool isLast = (int)at + count == xml.Length;
        _output.Packet([(byte)(isLast ? 'l' : 'm'), .. xml.AsSpan((int)at, count)]);
    }

    void Describe(string thread)
    {
        if (!ThreadId.TryParse(thread, _machine.Cpus.Count, out ThreadId id) || id.IsAll || id.IsAny)
        {
            Reply(GdbProtocol.Invalid);
            return;
        }
        string state = _machine.Cpus[id.Cpu].IsHalted ? "halted " : "running";
        Reply(GdbProtocol.Hex(Encoding.ASCII.GetBytes($"CPU#{id.Cpu} [{state}]")));
    }

    void ChooseThread(string text)
    {
        char about = text.Length > 0 ? text[0] : '\0';
        if (about is not ('g' or 'c') || !ThreadId.TryParse(text[1..], _machine.Cpus.Count, out ThreadId id))
        {
            Reply(GdbProtocol.Invalid);
            return;
        }
        if (!id.IsAll && !id.IsAny)
        {
            IVCpu cpu = _machine.Cpus[id.Cpu];
            if (about == 'c') _steps = cpu;
            else (_looksAt, _registers) = (cpu, null);
        }
        Reply(GdbProtocol.Ok);
    }

    void AskThread(string text) =>
        Reply(ThreadId.TryParse(text, _machine.Cpus.Count, out _) ? GdbProtocol.Ok : GdbProtocol.Invalid);

    bool TrySetSstep(string text)
    {
        if (!int.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int bits)
            || (bits & ~SstepAll) != 0) return false;
        _sstep = bits;
        return true;
    }

    /// <summary>A line of the human monitor, which has a vCPU of its own in view.</summary>
    void RunCommand(string hex)
    {
        if (GdbProtocol.Bytes(hex) is not { } line) { Reply(GdbProtocol.Invalid); return; }
        ValueTask command = CommandLine.ExecuteAsync(new Console(this, _context), Encoding.UTF8.GetString(line));
        if (command.IsCompleted)
        {
            command.GetAwaiter().GetResult();
            Reply(GdbProtocol.Ok);
        }
        else Finish(command);
    }

    /// <summary>A command that answers later: nothing else is read before. A fault of ours ends the program, as
    /// anywhere.</summary>
    async void Finish(ValueTask command)
    {
        _isBusy = true;
        int connection = _connection;
        await command.ConfigureAwait(false);
        if (connection != _connection) return;
        _isBusy = false;
        Reply(GdbProtocol.Ok);
        TakeTyped();
        _backend.AcceptInput();
    }

    /// <summary>Prints on the debugger's terminal: packet O.</summary>
    sealed class Console(GdbSession session, CommandContext context) : IMonitor
    {
        readonly int _connection = session._connection;

        public CommandContext Context { get; } = context;
        public IReadOnlyList<string> History => [];

        public void Write(string text)
        {
            const int most = GdbProtocol.PacketSize / 2 - 1;
            if (_connection != session._connection) return;
            foreach (byte[] piece in Encoding.UTF8.GetBytes(text).Chunk(most))
                session.Reply("O" + GdbProtocol.Hex(piece));
        }
    }
}
