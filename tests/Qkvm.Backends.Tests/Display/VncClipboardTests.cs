using System.IO.Compression;
using System.Text;
using Qkvm.Backends.Display;

namespace Qkvm.Backends.Tests.Display;

/// <summary>Text that is cut at one viewer and pasted at another. Spec: RFC 6143, section 7.5.6; the protocol's
/// community version, "Extended Clipboard Pseudo-Encoding".</summary>
public class VncClipboardTests
{
    const int Extended = -1063131698, Raw = 0;

    static byte[] Cut(string text) =>
        [6, 0, 0, 0, .. Big(text.Length), .. Encoding.Latin1.GetBytes(text)];

    static byte[] Big(int value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    static byte[] Message(byte flags, byte[] body, int? length = null) =>
        [6, 0, 0, 0, .. Big(length ?? -(body.Length + 4)), flags, 0, 0, 1, .. body];

    static byte[] Packed(byte[] content)
    {
        var packed = new MemoryStream();
        using (var zlib = new ZLibStream(packed, CompressionMode.Compress, leaveOpen: true)) zlib.Write(content);
        return packed.ToArray();
    }

    /// <summary>A viewer that speaks the extended form, after the server's offer.</summary>
    static VncViewer Speaker(VncBench bench)
    {
        VncViewer viewer = bench.ConnectAndStart(true, Extended, Raw);
        Assert.Equal([3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xF8, 0x1F, 0, 0, 1, 0, 0, 0, 0], viewer.Receive(16));
        return viewer;
    }

    /// <returns>The flags' first byte, and what follows.</returns>
    static (byte Flags, byte[] Body) Read(VncViewer viewer)
    {
        Assert.Equal([3, 0, 0, 0], viewer.Receive(4));
        byte[] message = viewer.Receive(-viewer.Dword());
        return (message[0], message[4..]);
    }

    [Fact]
    public void Latin_text_goes_to_the_other_viewers_alone()
    {
        using var bench = new VncBench();
        using VncViewer one = bench.ConnectAndStart(), other = bench.ConnectAndStart();
        one.Send(Cut("naïve\n"));
        Assert.Equal([3, 0, 0, 0, 0, 0, 0, 6], other.Receive(8));
        Assert.Equal("naïve\n", Encoding.Latin1.GetString(other.Receive(6)));
        one.RequestAndRead(incremental: false);                    // the first that it is told
    }

    [Fact]
    public void Any_text_goes_through_the_extended_form_when_it_is_asked_for()
    {
        const string text = "Grüße, 漢字\nbye";
        using var bench = new VncBench();
        using VncViewer one = Speaker(bench), other = Speaker(bench), old = bench.ConnectAndStart();
        one.Send(Message(0x08, []));                               // it has something
        Assert.Equal((0x02, []), Read(one));                       // the server wants it
        byte[] utf8 = [.. Encoding.UTF8.GetBytes(text.Replace("\n", "\r\n")), 0];
        one.Send(Message(0x10, Packed([.. Big(utf8.Length), .. utf8])));
        Assert.Equal((0x08, []), Read(other));
        other.Send(Message(0x02, []));
        (byte flags, byte[] body) = Read(other);
        Assert.Equal((0x10, text), (flags, VncClipboard.Unpack(body)));
        old.Receive(4);
        Assert.Equal("Grüße, ??\nbye", Encoding.Latin1.GetString(old.Receive(old.Dword())));
    }

    /// <summary>A few bytes that would become gigabytes, a length that is a lie, a stream that is none.</summary>
    [Fact]
    public void What_is_no_text_of_a_sane_size_is_dropped()
    {
        using var bench = new VncBench();
        using VncViewer one = Speaker(bench), other = bench.ConnectAndStart();
        one.Send(Message(0x10, Packed([.. Big(1 << 20 | 1), .. new byte[1 << 20 | 1]])));
        one.Send(Message(0x10, Packed([0xFF, 0xFF, 0xFF, 0xFF, .. new byte[1 << 22]])));
        one.Send(Message(0x10, Packed([0, 0, 0, 9, 65])));
        one.Send(Message(0x10, [1, 2, 3, 4]));
        one.Send(Message(0x10, []));
        one.RequestAndRead(incremental: false);                    // it is borne
        one.Send(Cut("end"));
        Assert.Equal([3, 0, 0, 0, 0, 0, 0, 3], other.Receive(8));
    }

    [Theory]
    [InlineData(-1)] [InlineData(-3)] [InlineData(int.MinValue)] [InlineData(-(1 << 20) - 1)]
    public void A_message_of_an_insane_length_ends_the_connection(int length)
    {
        using var bench = new VncBench();
        using VncViewer viewer = Speaker(bench);
        viewer.Send(Message(0x10, [], length));
        viewer.AssertHungUp();
    }

    /// <summary>Who does not read is told of the last text alone.</summary>
    [Fact]
    public void Texts_do_not_pile_up_for_who_does_not_read()
    {
        using var bench = new VncBench();
        using VncViewer one = bench.ConnectAndStart(), deaf = bench.ConnectAndStart();
        string large = new('x', 1 << 20);
        for (int i = 0; i < 50; i++) one.Send(Cut(large));
        one.Send(Cut("the last"));
        one.RequestAndRead(incremental: false);                    // the server has taken them all
        int messages = 0, length;
        do
        {
            Assert.Equal([3, 0, 0, 0], deaf.Receive(4));
            length = deaf.Dword();
            deaf.Receive(length);
            messages++;
        } while (length > 8);
        Assert.InRange(messages, 2, 5);
    }
}
