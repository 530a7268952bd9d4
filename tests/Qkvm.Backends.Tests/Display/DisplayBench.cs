using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;

namespace Qkvm.Backends.Tests.Display;

/// <summary>A viewer without a screen that measures a server, ours or another, with tests/guests/display.asm in
/// it.</summary>
sealed class DisplayBench : IDisposable
{
    const int Changes = 15, Quiet = 300;                           // milliseconds without an update: it was the last

    readonly Socket _socket, _serial;
    readonly NetworkStream _stream;
    readonly byte[] _buffer = new byte[1 << 16];
    readonly int _process;
    int _start, _end;
    long _received;

    DisplayBench(string host, int port, string serial, int process)
    {
        _process = process;
        _socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true, ReceiveTimeout = 20_000 };
        _socket.Connect(host, port);
        _stream = new NetworkStream(_socket, ownsSocket: true);
        _serial = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified)
        {
            ReceiveTimeout = 20_000,
        };
        _serial.Connect(new UnixDomainSocketEndPoint(serial));
    }

    public void Dispose()
    {
        _stream.Dispose();
        _serial.Dispose();
    }

    /// <param name="words">host, port, the guest's serial line, the server's process, seconds of each measurement, the
    /// encodings.</param>
    public static void Run(string[] words, Action<string> print)
    {
        int process = int.Parse(words[3], CultureInfo.InvariantCulture),
            seconds = int.Parse(words[4], CultureInfo.InvariantCulture);
        using var bench = new DisplayBench(words[0], int.Parse(words[1], CultureInfo.InvariantCulture), words[2],
            process);
        int[] encodings = [.. words[5].Split(',').Select(word => int.Parse(word, CultureInfo.InvariantCulture))];
        bench._serial.Send("a"u8);
        bench.AwaitDone();
        double idleAlone = bench.Cpu(() => Thread.Sleep(seconds * 1000));
        bench._serial.Send("s"u8);
        Thread.Sleep(500);
        double scrollAlone = bench.Cpu(() => Thread.Sleep(seconds * 1000));
        bench._serial.Send("q"u8);
        bench.Begin(encodings);
        double[] changes = [.. Enumerable.Range(0, Changes).Select(i => bench.Change(i % 2 == 0 ? "b"u8 : "a"u8))];
        Array.Sort(changes);
        double idle = bench.Cpu(() => bench.Watch(seconds));
        bench._serial.Send("s"u8);
        bench.Watch(1);
        long before = bench._received;
        int frames = 0;
        double scroll = bench.Cpu(() => frames = bench.Watch(seconds));
        bench._serial.Send("q"u8);
        print(FormattableString.Invariant($"change {changes[Changes / 2],6:F1} ms   ")
            + FormattableString.Invariant($"scroll {(double)frames / seconds,5:F1} frames/s at {scroll - scrollAlone,5:F1} % CPU, ")
            + FormattableString.Invariant($"{(bench._received - before) / 1e6 / seconds,6:F2} MB/s   ")
            + FormattableString.Invariant($"idle {idle - idleAlone,5:F2} % CPU (the guest's own: {idleAlone:F1}, ")
            + FormattableString.Invariant($"scrolling {scrollAlone:F1})"));
    }

    /// <summary>Of a processor, in per cent, over the time that something takes.</summary>
    double Cpu(Action during)
    {
        var clock = Stopwatch.StartNew();
        double before = Ticks();
        during();
        return (Ticks() - before) / clock.Elapsed.TotalSeconds;    // a tick is a hundredth of a second

        double Ticks()
        {
            string[] fields = File.ReadAllText($"/proc/{_process}/stat").Split(") ")[1].Split(' ');
            return double.Parse(fields[11], CultureInfo.InvariantCulture)
                + double.Parse(fields[12], CultureInfo.InvariantCulture);
        }
    }

    void AwaitDone()
    {
        var answer = new byte[1];
        do _serial.Receive(answer);
        while (answer[0] != 'd');
    }

    void Begin(int[] encodings)
    {
        Skip(12);
        _stream.Write("RFB 003.008\n"u8);
        Skip(Byte());
        _stream.Write([1]);
        Skip(4);
        _stream.Write([1]);
        Skip(4 + 16);
        Skip(Dword());
        byte[] list = new byte[4 + encodings.Length * 4];
        (list[0], list[3]) = (2, (byte)encodings.Length);
        for (int i = 0; i < encodings.Length; i++)
            System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(list.AsSpan(4 + i * 4), encodings[i]);
        _stream.Write(list);
        Request(false);
        while (TryUpdate(Quiet)) Request(true);
    }

    void Request(bool incremental) => _stream.Write([3, (byte)(incremental ? 1 : 0), 0, 0, 0, 0, 4, 0, 3, 0]);

    /// <summary>Milliseconds from when the guest has drawn to the last rectangle.</summary>
    double Change(ReadOnlySpan<byte> picture)
    {
        _serial.Send(picture);
        AwaitDone();
        var clock = Stopwatch.StartNew();
        double last = 0;
        while (TryUpdate(Quiet))
        {
            last = clock.Elapsed.TotalMilliseconds;
            Request(true);
        }
        return last;
    }

    /// <returns>The number of updates.</returns>
    int Watch(int seconds)
    {
        var clock = Stopwatch.StartNew();
        int frames = 0;
        for (long left; (left = seconds * 1000 - clock.ElapsedMilliseconds) > 0;)
            if (TryUpdate((int)left))
            {
                frames++;
                Request(true);
            }
        return frames;
    }

    bool TryUpdate(int milliseconds)
    {
        if (_start == _end && !_socket.Poll(milliseconds * 1000, SelectMode.SelectRead)) return false;
        int type = Byte();
        if (type != 0) throw new InvalidDataException($"message {type}");
        Skip(1);
        for (int left = Word(); left > 0; left--)
        {
            Skip(4);
            int width = Word(), height = Word(), encoding = Dword();
            switch (encoding)
            {
                case 0: Skip(width * height * 4); break;
                case 1: Skip(4); break;
                case 6 or 16: Skip(Dword()); break;
                case 7: Tight(width, height); break;
                default: throw new InvalidDataException($"encoding {encoding}");
            }
        }
        return true;
    }

    void Tight(int width, int height)
    {
        int control = Byte();
        if (control >> 4 == 8) { Skip(3); return; }
        int size = width * height * 3;
        if (control >> 4 == 9) size = int.MaxValue;
        else if ((control & 0x40) != 0 && Byte() == 1)
        {
            int colors = Byte() + 1;
            Skip(colors * 3);
            size = colors == 2 ? (width + 7) / 8 * height : width * height;
        }
        if (size < 12) { Skip(size); return; }
        int first = Byte(), second = first > 127 ? Byte() : 0, third = second > 127 ? Byte() : 0;
        Skip(first & 127 | (second & 127) << 7 | third << 14);
    }

    void Fill()
    {
        (_start, _end) = (0, _stream.Read(_buffer));
        if (_end == 0) throw new EndOfStreamException("the server hung up");
        _received += _end;
    }

    void Skip(int count)
    {
        while (count > 0)
        {
            if (_start == _end) Fill();
            int part = Math.Min(count, _end - _start);
            (_start, count) = (_start + part, count - part);
        }
    }

    int Byte()
    {
        if (_start == _end) Fill();
        return _buffer[_start++];
    }

    int Word() => Byte() << 8 | Byte();
    int Dword() => Word() << 16 | Word();
}
