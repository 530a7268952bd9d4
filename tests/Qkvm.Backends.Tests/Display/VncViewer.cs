using System.Buffers.Binary;
using System.Numerics;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Qkvm.Backends.Tests.Display;

/// <summary>A viewer that decodes by the letter of RFC 6143. Pixels stay as the server sent them.</summary>
sealed partial class VncViewer : IDisposable
{
    Stream _stream;
    int _bytesPerPixel = 4;
    bool _bigEndian;
    uint _mask = 0xFFFFFF;                                         // of the bits that colours use
    ((int Max, int Shift) Red, (int Max, int Shift) Green, (int Max, int Shift) Blue) _channels =
        ((255, 16), (255, 8), (255, 0));

    public VncViewer(string path)
        : this(new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified),
            new UnixDomainSocketEndPoint(path)) { }

    public VncViewer(Socket socket, EndPoint at)
    {
        socket.Connect(at);
        _stream = new NetworkStream(socket, ownsSocket: true)
        {
            ReadTimeout = (int)VncBench.Hang.TotalMilliseconds, WriteTimeout = (int)VncBench.Hang.TotalMilliseconds,
        };
    }

    public VncViewer(Stream stream) => _stream = stream;

    public int WriteTimeout { set => _stream.WriteTimeout = value; }

    public long BytesReceived { get; private set; }

    /// <summary>A line of HTTP.</summary>
    public string Line()
    {
        var line = new StringBuilder();
        for (char c; (c = (char)Receive(1)[0]) != '\n';) line.Append(c);
        return line.ToString().TrimEnd('\r');
    }

    public void SetDesktopSize(int width, int height, int screens = 1)
    {
        var message = new byte[8 + screens * 16];
        message[0] = 251;
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), (ushort)width);
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(4), (ushort)height);
        message[6] = (byte)screens;
        Send(message);
    }

    /// <summary>What comes now goes through another layer.</summary>
    public void Layer(Func<Stream, Stream> layer) => _stream = layer(_stream);

    public int Width { get; private set; }
    public int Height { get; private set; }
    public string Name { get; private set; } = "";
    public uint[] Picture { get; private set; } = [];
    public List<(int X, int Y, int Width, int Height, int Encoding)> Rectangles { get; } = [];
    public (int Red, int Green, int Blue)[] ColorMap { get; } = new (int, int, int)[256];

    public void Send(params byte[] data)
    {
        _stream.Write(data);
        _stream.Flush();
    }

    public byte[] Receive(int count)
    {
        var data = new byte[count];
        _stream.ReadExactly(data);
        BytesReceived += count;
        return data;
    }

    /// <summary>Reads until the server hangs up; throws where it does not.</summary>
    public void AssertHungUp()
    {
        var rest = new byte[65536];
        try { while (_stream.Read(rest) > 0) { } }
        catch (IOException e) when (e.InnerException is SocketException
            { SocketErrorCode: SocketError.ConnectionReset or SocketError.Shutdown }) { }
    }

    public int Word() => BinaryPrimitives.ReadUInt16BigEndian(Receive(2));
    public int Dword() => BinaryPrimitives.ReadInt32BigEndian(Receive(4));

    public void Handshake(int minor, bool shared = true)
    {
        Assert.Equal("RFB 003.008\n", Encoding.ASCII.GetString(Receive(12)));
        Send(Encoding.ASCII.GetBytes($"RFB 003.{minor:D3}\n"));
        if (minor is 7 or 8)
        {
            Assert.Equal([1, 1], Receive(2));
            Send(1);
            if (minor == 8) Assert.Equal(0, Dword());
        }
        else Assert.Equal(1, Dword());
        Begin(shared);
    }

    /// <summary>It may watch: ClientInit and ServerInit.</summary>
    public void Begin(bool shared = true)
    {
        Send((byte)(shared ? 1 : 0));
        (Width, Height) = (Word(), Word());
        Assert.Equal([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], Receive(16)[..13]);
        Name = Encoding.UTF8.GetString(Receive(Dword()));
        Picture = new uint[Width * Height];
    }

    /// <summary>Why the layout is what it is, and what became of a wish for another.</summary>
    public (int Reason, int Result) Layout { get; private set; }

    public uint[] Pointer { get; private set; } = [];
    public bool[] PointerMask { get; private set; } = [];

    /// <summary>Of the keyboard, as the server told last.</summary>
    public int Lights { get; private set; } = -1;

    public void Key(uint keysym, bool down) =>
        Send(4, (byte)(down ? 1 : 0), 0, 0, (byte)(keysym >> 24), (byte)(keysym >> 16), (byte)(keysym >> 8),
        (byte)keysym);

    public void Type(params uint[] keysyms)
    {
        foreach (uint keysym in keysyms) Key(keysym, true);
        foreach (uint keysym in keysyms.Reverse()) Key(keysym, false);
    }

    public void SetEncodings(params int[] encodings)
    {
        var message = new byte[4 + encodings.Length * 4];
        message[0] = 2;
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), (ushort)encodings.Length);
        for (int i = 0; i < encodings.Length; i++)
            BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(4 + i * 4), encodings[i]);
        Send(message);
    }

    public void SetPixelFormat(int bits, bool bigEndian, bool trueColor, (int Max, int Shift) red,
        (int Max, int Shift) green, (int Max, int Shift) blue)
    {
        (_bytesPerPixel, _bigEndian, _channels) = (bits / 8, bigEndian, (red, green, blue));
        _mask = (uint)red.Max << red.Shift | (uint)green.Max << green.Shift | (uint)blue.Max << blue.Shift;
        int depth = trueColor ? BitOperations.PopCount(_mask) : bits;
        if (depth > 24) _mask = uint.MaxValue;                     // all four bytes are sent
        Send(0, 0, 0, 0, (byte)bits, (byte)depth, (byte)(bigEndian ? 1 : 0), (byte)(trueColor ? 1 : 0),
            (byte)(red.Max >> 8), (byte)red.Max, (byte)(green.Max >> 8),
            (byte)green.Max, (byte)(blue.Max >> 8), (byte)blue.Max, (byte)red.Shift, (byte)green.Shift,
                (byte)blue.Shift, 0, 0, 0);
    }

    public void Request(bool incremental, int x, int y, int width, int height) =>
        Send(3, (byte)(incremental ? 1 : 0), (byte)(x >> 8), (byte)x, (byte)(y >> 8), (byte)y, (byte)(width >> 8),
            (byte)width, (byte)(height >> 8), (byte)height);

    public void Request(bool incremental) => Request(incremental, 0, 0, Width, Height);

    /// <summary>Reads one FramebufferUpdate, and a colour map in front of it.</summary>
    public void ReadUpdate()
    {
        Rectangles.Clear();
        int type = Receive(2)[0];
        if (type == 1)
        {
            int first = Word(), entries = Word();
            for (int i = first; i < first + entries; i++) ColorMap[i] = (Word(), Word(), Word());
            type = Receive(2)[0];
        }
        Assert.Equal(0, type);
        for (int left = Word(); left > 0; left--)
        {
            int x = Word(), y = Word(), width = Word(), height = Word(), encoding = Dword();
            Rectangles.Add((x, y, width, height, encoding));
            switch (encoding)
            {
                case 0: Raw(x, y, width, height); break;
                case 1: Copy(x, y, width, height, Word(), Word()); break;
                case 5: Hextile(x, y, width, height); break;
                case 6: Zlib(x, y, width, height); break;
                case 7: Tight(x, y, width, height); break;
                case 16: Zrle(x, y, width, height); break;
                case -223: (Width, Height, Picture) = (width, height, new uint[width * height]); break;
                case -308:
                    Layout = (x, y);
                    Assert.Equal([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Receive(12));
                    Assert.Equal((width, height, 0), (Word(), Word(), Dword()));
                    if (width != Width || height != Height) Picture = new uint[width * height];
                    (Width, Height) = (width, height);
                    break;
                case -257 or -258: break;
                case -260: TightPng(x, y, width, height); break;
                case -307: Name = Encoding.UTF8.GetString(Receive(Dword())); break;
                case -314:
                    Assert.Equal(0, Dword());
                    byte[] colors = Receive(width * height * 4);
                    Pointer = [.. Enumerable.Range(0, width * height).Select(i => (uint)(colors[i * 4 + 3] << 24
                        | colors[i * 4] << 16 | colors[i * 4 + 1] << 8 | colors[i * 4 + 2]))];
                    break;
                case -239:
                    byte[] pixels = Receive(width * height * _bytesPerPixel);
                    Pointer = [.. Enumerable.Range(0, width * height).Select(i =>
                        Pixel(pixels.AsSpan(i * _bytesPerPixel)))];
                    int stride = (width + 7) / 8;
                    byte[] mask = Receive(stride * height);
                    PointerMask = [.. Enumerable.Range(0, width * height).Select(i =>
                        (mask[i / width * stride + i % width / 8] & 0x80 >> i % width % 8) != 0)];
                    break;
                case -261: Lights = Receive(1)[0]; break;
                case 0x574D5668: Lights = Dword(); break;
                default: throw new InvalidDataException($"encoding {encoding} was not offered");
            }
        }
    }

    public void RequestAndRead(bool incremental)
    {
        Request(incremental);
        ReadUpdate();
    }

    public void Dispose() => _stream.Dispose();

    uint Pixel(ReadOnlySpan<byte> data)
    {
        uint value = 0;
        for (int i = 0; i < _bytesPerPixel; i++)
            value |= (uint)data[_bigEndian ? _bytesPerPixel - 1 - i : i] << (i * 8);
        return value;
    }

    void Raw(int x, int y, int width, int height)
    {
        byte[] data = Receive(width * height * _bytesPerPixel);
        for (int i = 0; i < width * height; i++)
            Picture[(y + i / width) * Width + x + i % width] = Pixel(data.AsSpan(i * _bytesPerPixel));
    }

    void Copy(int x, int y, int width, int height, int fromX, int fromY)
    {
        uint[] before = [.. Picture];
        for (int row = 0; row < height; row++)
            before.AsSpan((fromY + row) * Width + fromX, width).CopyTo(Picture.AsSpan((y + row) * Width + x));
    }

    void Fill(int x, int y, int width, int height, uint color)
    {
        for (int row = y; row < y + height; row++) Picture.AsSpan(row * Width + x, width).Fill(color);
    }

    void Hextile(int x, int y, int width, int height)
    {
        uint background = 0, foreground = 0;
        for (int top = y; top < y + height; top += 16)
            for (int left = x; left < x + width; left += 16)
            {
                int w = Math.Min(16, x + width - left), h = Math.Min(16, y + height - top), mask = Receive(1)[0];
                if ((mask & 1) != 0) { Raw(left, top, w, h); continue; }
                if ((mask & 2) != 0) background = Pixel(Receive(_bytesPerPixel));
                if ((mask & 4) != 0) foreground = Pixel(Receive(_bytesPerPixel));
                Fill(left, top, w, h, background);
                for (int count = (mask & 8) != 0 ? Receive(1)[0] : 0; count > 0; count--)
                {
                    uint color = (mask & 16) != 0 ? Pixel(Receive(_bytesPerPixel)) : foreground;
                    byte[] place = Receive(2);
                    int dx = place[0] >> 4, dy = place[0] & 15, dw = (place[1] >> 4) + 1, dh = (place[1] & 15) + 1;
                    Assert.True(dx + dw <= w && dy + dh <= h);
                    Fill(left + dx, top + dy, dw, dh, color);
                }
            }
    }
}
