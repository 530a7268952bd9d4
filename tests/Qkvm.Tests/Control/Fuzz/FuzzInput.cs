using System.Text;
using System.Text.Json;
using Qkvm.Control;

namespace Qkvm.Tests.Control.Fuzz;

/// <summary>What clients send: commands with arguments of the right kinds and of others, and the same with mistakes in
/// them.</summary>
/// <param name="schema">query-qmp-schema's answer.</param>
/// <param name="scratch">Where files may be made.</param>
sealed class FuzzInput(Random random, JsonElement schema, string scratch)
{
    const int MostDepth = 3;

    /// <summary>They end the machine, or would change the host or fill its disk.</summary>
    static readonly string[] s_never = ["quit", "q", "gdbserver", "memsave", "pmemsave", "dump-guest-memory",
        "screendump", "logfile", "trace-file", "drive_add", "change", "blockdev-change-medium"];
    static readonly HashSet<string> s_neverValues = ["tap", "bridge", "passt", "l2tpv3", "vde", "pty", "serial", "tty",
        "parallel", "parport", "stdio", "shutdown", "poweroff", "memory-backend-file", "host_device"];

    /// <summary>Members of records that name files.</summary>
    static readonly HashSet<string> s_files = ["path", "filename", "file", "out", "in", "logfile", "target", "dir",
        "device-path", "chardev-path"];

    readonly Dictionary<string, JsonElement> _types = schema.EnumerateArray()
        .ToDictionary(type => type.GetProperty("name").GetString()!);
    readonly string[] _commands = [.. schema.EnumerateArray()
        .Where(type => type.GetProperty("meta-type").GetString() == "command")
        .Select(type => type.GetProperty("name").GetString()!).Except(s_never)];
    readonly string[] _human = [.. AllHuman.Except(s_never)];

    static IEnumerable<string> AllHuman =>
        [.. CommandCatalogue.Standard.Human.SelectMany(command => command.Form!.Names),
        .. CommandCatalogue.Standard.Info.SelectMany(item => item.Form!.Names.Select(name => $"info {name}"))];
    readonly string[] _texts = ["", "a", "disk", "disk0", "serial0", "port0", "balloon0", "n0", "c0", "o0", "/machine",
        "/machine/peripheral/disk0", "type", "realized", "0", "-1", "0x10", "1k", "on", "off", "help", "user", "null",
        "ringbuf", "e1000", "virtio-rng-pci", "pci.0", "rng-builtin", "null-co", "raw", "$rip", "1+2*(3", "ctrl-alt-f1",
        "id=c0", "null,id=c0", "user,id=n0", "e1000,id=e0", "hub", "socket,id=c1", "é\u0001\u007F", "%s%n", "fd",
        $"{scratch}/a", "/dev/fdset/1", "host-phys-bits", "qemu64", "static", "full"];

    public byte[] Qmp()
    {
        int kind = random.Next(20);
        if (kind == 0) return Noise();
        string name = kind == 1 ? Text() : Pick(_commands);
        var line = new StringBuilder($$"""{"{{(random.Next(8) == 0 ? "exec-oob" : "execute")}}": {{Quote(name)}}""");
        if (_types.TryGetValue(name, out JsonElement command) && command.TryGetProperty("arg-type", out var argument)
            && random.Next(8) > 0) line.Append($", \"arguments\": {Value(argument.GetString()!, 0)}");
        if (random.Next(3) == 0) line.Append($", \"id\": {Value("any", 0)}");
        line.Append('}').Append(random.Next(3) == 0 ? "\r\n" : "\n");
        return Spoilt(line.ToString(), 6);
    }

    public byte[] Human()
    {
        if (random.Next(15) == 0) return Noise();
        var line = new StringBuilder(Pick(_human));
        if (random.Next(3) == 0) line.Append($"/{random.Next(300)}{"xduotci"[random.Next(7)]}{"bhwg"[random.Next(4)]}");
        for (int i = random.Next(4); i > 0; i--) line.Append(' ').Append(random.Next(4) == 0 ? Number() : Text());
        line.Append(Pick("\r", "\n", "\t", "\t\t\r", "\u0012", "\u0010\r", "\u001B[A\r", "\u0001\u0004\u0005\u000B\r"));
        return Spoilt(line.ToString(), 8);
    }

    /// <summary>With telnet's commands in between.</summary>
    public byte[] Telnet()
    {
        var bytes = new List<byte>(Human());
        for (int i = random.Next(4); i > 0; i--)
        {
            byte[] command = random.Next(3) switch
            {
                0 => [255, (byte)random.Next(236, 256)],
                1 => [255, (byte)random.Next(251, 255), (byte)random.Next(256)],
                _ => [255, 250, .. Noise(), 255, (byte)(random.Next(2) * 240)],
            };
            bytes.InsertRange(random.Next(bytes.Count + 1), command);
        }
        return [.. bytes];
    }

    public byte[] Gdb()
    {
        if (random.Next(15) == 0) return Noise();
        string packet = random.Next(14) switch
        {
            0 => Pick("?", "g", "qSupported:multiprocess+;xmlRegisters=i386", "qXfer:features:read:target.xml:0,ffb",
                "QStartNoAckMode", "qfThreadInfo", "qsThreadInfo", "qC", "vCont?", "D", "!", "qAttached",
                    "vMustReplyEmpty"),
            1 => $"m{Hex()},{Hex()}",
            2 => $"M{Hex()},{Hex()}:{Digits()}",
            3 => $"X{Hex()},{Hex()}:{Text()}",
            4 => $"{Pick("Z", "z")}{random.Next(6)},{Hex()},{Hex()}",
            5 => $"p{Hex()}",
            6 => $"P{Hex()}={Digits()}",
            7 => $"G{Digits()}",
            8 => $"H{Pick("g", "c", "x")}{Pick("p1.", "", "-")}{Hex()}",
            9 => "vCont" + Pick(";", "") + Pick("c", "s", "C05", "S05", "t", "r1,2")
                + Pick("", ":p1.1", ":2", ":-1", ";c"),
            10 => $"qRcmd,{Convert.ToHexString(Human().Where(b => b != '\r').ToArray())}",
            11 => $"q{Text()}{Pick(":", ",", "")}{Hex()}",
            12 => $"T{Pick("p1.", "")}{Hex()}",
            _ => Pick("Qqemu.PhyMemMode:1", "qqemu.sstepbits", "Qqemu.sstep=7", "s", "c", "\u0003", "vAttach;1"),
        };
        string sum = $"{packet.Sum(c => (byte)c) & 0xFF:x2}";
        return Spoilt($"{Pick("", "+", "-")}${packet}#{(random.Next(20) == 0 ? "zz" : sum)}", 10);
    }

    /// <summary>A client's frames, which begin after a handshake.</summary>
    public byte[] Frames()
    {
        byte[] payload = random.Next(4) == 0 ? new byte[random.Next(70_000)] : Noise();
        var frame = new List<byte> { (byte)random.Next(256) };
        if (random.Next(3) > 0) frame[0] = (byte)Pick(0x82, 0x02, 0x80, 0x89, 0x8A);
        int mask = random.Next(20) == 0 ? 0 : 0x80;
        if (payload.Length < 126) frame.Add((byte)(mask | payload.Length));
        else if (payload.Length <= 0xFFFF) frame.AddRange([(byte)(mask | 126), (byte)(payload.Length >> 8),
            (byte)payload.Length]);
        else frame.AddRange([(byte)(mask | 127), 0, 0, 0, 0, 0, (byte)(payload.Length >> 16),
            (byte)(payload.Length >> 8), (byte)payload.Length]);
        if (mask != 0) frame.AddRange([1, 2, 3, 4]);
        return Spoil([.. frame, .. payload], 20);
    }

    public byte[] Noise()
    {
        var noise = new byte[random.Next(random.Next(5) == 0 ? 5000 : 40)];
        random.NextBytes(noise);
        return noise;
    }

    // Values

    string Value(string typeName, int depth)
    {
        JsonElement type = _types.GetValueOrDefault(random.Next(25) == 0 ? Pick("str", "int", "bool", "any")
            : typeName);
        if (type.ValueKind == JsonValueKind.Undefined || depth > MostDepth) return Simple();
        switch (type.GetProperty("meta-type").GetString())
        {
            case "object": return Object(type, depth);
            case "array": return $"[{string.Join(", ", Enumerable.Range(0, random.Next(4))
                .Select(_ => Value(type.GetProperty("element-type").GetString()!, depth + 1)))}]";
            case "enum": return Quote(random.Next(10) == 0 ? Text() : Of(type.GetProperty("values")));
            case "alternate":
                JsonElement[] members = [.. type.GetProperty("members").EnumerateArray()];
                return Value(members[random.Next(members.Length)].GetProperty("type").GetString()!, depth + 1);
            case "builtin" when type.GetProperty("json-type").GetString() == "string": return Quote(Text());
            case "builtin" when type.GetProperty("json-type").GetString() == "boolean": return Pick("true", "false");
            case "builtin" when typeName != "any": return Number();
            default: return Simple();
        }
    }

    string Object(JsonElement type, int depth)
    {
        var members = new List<string>();
        IEnumerable<JsonElement> all = type.GetProperty("members").EnumerateArray();
        string? choice = null;
        foreach (JsonElement member in all)
        {
            if (random.Next(member.TryGetProperty("default", out _) ? 3 : 20) > 0
                && member.TryGetProperty("default", out _) || random.Next(20) == 0) continue;
            string name = member.GetProperty("name").GetString()!;
            string kind = member.GetProperty("type").GetString()!;
            string value = kind == "str" && s_files.Contains(name) ? Quote($"{scratch}/{Pick("a", "b", "c/d")}")
                : Value(kind, depth + 1);
            if (type.TryGetProperty("tag", out JsonElement tag) && tag.GetString() == name) choice = value.Trim('"');
            members.Add($"{Quote(name)}: {value}");
        }
        if (choice != null && type.TryGetProperty("variants", out JsonElement variants))
            foreach (JsonElement variant in variants.EnumerateArray())
                if (variant.GetProperty("case").GetString() == choice
                    && Value(variant.GetProperty("type").GetString()!, depth + 1) is ['{', .. var inner, '}']
                    && inner.Length > 0) members.Add(inner);
        if (random.Next(15) == 0) members.Add($"{Quote(Text())}: {Simple()}");
        return $"{{{string.Join(", ", members)}}}";
    }

    string Simple() => random.Next(6) switch
    {
        0 => Quote(Text()),
        1 => Number(),
        2 => Pick("true", "false", "null", "{}", "[]"),
        3 => string.Concat(Enumerable.Repeat("[", random.Next(40))) + "1",
        4 => $"[{Number()}, {Quote(Text())}]",
        _ => $"{{{Quote(Text())}: {Number()}}}",
    };

    string Text()
    {
        if (random.Next(40) == 0) return new string('A', random.Next(6000));
        return Pick(_texts);
    }

    string Number() => random.Next(4) switch
    {
        0 => $"{random.Next(-3, 300)}",
        1 => Pick("0", "-0", "1.5", "1e3", "1e400", "9223372036854775808", "18446744073709551615",
            "-9223372036854775809"),
        2 => $"{1L << random.Next(63)}",
        _ => $"{random.NextInt64()}",
    };

    string Hex() => random.Next(3) switch
    {
        0 => $"{random.Next(20):x}",
        1 => $"{random.NextInt64():x}",
        _ => Pick("", "0", "fff0", "ffffffffffffffff", "-1", "1000", "10000000000000000"),
    };

    string Digits() => string.Concat(Enumerable.Range(0, random.Next(40)).Select(_ => $"{random.Next(256):x2}"));

    string Of(JsonElement values)
    {
        string[] allowed = [.. values.EnumerateArray().Select(value => value.GetString()!).Except(s_neverValues)];
        return allowed.Length > 0 ? Pick(allowed) : "";
    }

    static string Quote(string text) => JsonSerializer.Serialize(text);

    T Pick<T>(params T[] all) => all[random.Next(all.Length)];

    byte[] Spoilt(string text, int rarely) => Spoil(Encoding.UTF8.GetBytes(text), rarely);

    /// <summary>Now and then with bytes that are changed, lost or doubled; never such that a name of the host's
    /// results.</summary>
    byte[] Spoil(byte[] bytes, int rarely)
    {
        if (random.Next(rarely) > 0 || bytes.Length == 0 || Encoding.UTF8.GetString(bytes).Contains('/')) return bytes;
        var spoilt = new List<byte>(bytes);
        for (int i = 1 + random.Next(4); i > 0 && spoilt.Count > 0; i--)
        {
            int at = random.Next(spoilt.Count);
            switch (random.Next(4))
            {
                case 0: spoilt[at] = (byte)random.Next(256); break;
                case 1: spoilt.RemoveAt(at); break;
                case 2: spoilt.Insert(at, spoilt[random.Next(spoilt.Count)]); break;
                default: spoilt.RemoveRange(at, random.Next(spoilt.Count - at)); break;
            }
        }
        return [.. spoilt];
    }
}
