using System.Buffers.Binary;

namespace Qkvm.Backends.Tests.Display;

/// <summary>What real viewers say first, and anything after it, with mistakes. Spec: RFC 6143, section 7.5; recorded
/// from TigerVNC 1.12, gtk-vnc 1.3 and noVNC 1.6.</summary>
sealed class ViewerWords(Random random)
{
    static readonly int[][] s_encodings =
    [
        [-314, 0x574D5664, -239, -240, 0x574D5666, -223, -308, -307, -224, -1063131698, -313, -312, -258, 7, 1, 16, 5,
            2, 1, 0, -254, -24],
        [7, -309, -258, -261, -308, -223, -307, -224, 0x574D5669, -259, -314, -239, -240, -257, 16, 5, 2, 1, 0],
        [1, 50, 7, -260, 16, 21, 5, 2, 6, 0, -26, -254, -223, -224, -258, -261, -308, -309, -312, -313, -307,
            -1063131698, -316, 0x574D5664, -239],
        [-223, 16, 5, 2, 1, 0], [5], [6], [16], [-260, -24], [7, -32], [0],
    ];

    /// <summary>Up to and with ClientInit.</summary>
    public byte[] Introduction() => random.Next(12) switch
    {
        0 => "RFB 003.003\n\u0001"u8.ToArray(),
        1 => "RFB 003.007\n\u0001\u0001"u8.ToArray(),
        2 => Bytes(random.Next(30)),
        3 => "RFB 003.008\n\u0002\u0001"u8.ToArray(),
        _ => "RFB 003.008\n\u0001\u0000"u8.ToArray(),
    };

    public byte[] Message()
    {
        switch (random.Next(14))
        {
            case 0: return PixelFormat();
            case 1: return Encodings(Pick(s_encodings));
            case 2: return [2, 0, 0xFF, 0xFF, .. Bytes(random.Next(5000))];
            case 3: return [4, (byte)random.Next(2), 0, 0, .. Big(random.Next(2) == 0 ? random.Next(128)
                : 0xFF00 + random.Next(256))];
            case 4: return [5, (byte)random.Next(256), .. Bytes(4)];
            case 5:
                int length = random.Next(3000);
                return [6, 0, 0, 0, .. Big(random.Next(4) == 0 ? random.Next() : length), .. Bytes(length)];
            case 6:                                                // extended clipboard
                byte[] body = [.. Big(Pick([1, 2, 4, 8, 16]) << 24 | random.Next(4)), .. Bytes(random.Next(64))];
                return [6, 0, 0, 0, .. Big(random.Next(4) == 0 ? random.Next() | int.MinValue : -body.Length), .. body];
            case 7: return [150, (byte)random.Next(2), .. Area()];
            case 8:
                int payload = random.Next(70);
                return [248, 0, 0, 0, .. Bytes(4), (byte)payload, .. Bytes(payload)];
            case 9: return [250, 0, (byte)random.Next(3), (byte)random.Next(6)];
            case 10:
                int screens = random.Next(4);
                return [251, 0, .. Big16(random.Next(900)), .. Big16(random.Next(700)), (byte)screens, 0,
                    .. Bytes(screens * 16)];
            case 11: return [255, 0, 0, (byte)random.Next(2), .. Big(random.Next(128)), .. Big(random.Next(256))];
            case 12: return [255, 1, 0, (byte)random.Next(4), .. Bytes(random.Next(7))];
            default: return [3, (byte)random.Next(2), .. random.Next(3) == 0 ? Area() : [0, 0, 0, 0, 0xFF, 0xFF, 0xFF,
                0xFF]];
        }
    }

    /// <summary>One mistake in four: bytes that changed, an end that is missing, one too much.</summary>
    public byte[] Spoil(byte[] message)
    {
        switch (random.Next(12))
        {
            case 0 when message.Length > 0:
                for (int i = random.Next(1, 4); i > 0; i--)
                    message[random.Next(message.Length)] = (byte)random.Next(256);
                return message;
            case 1: return message[..random.Next(message.Length + 1)];
            case 2: return [.. message, .. Bytes(random.Next(20))];
            default: return message;
        }
    }

    byte[] PixelFormat() => random.Next(5) switch
    {
        0 => [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0],
        1 => [0, 0, 0, 0, 16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0],
        2 => [0, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0],
        3 => [0, 0, 0, 0, 8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0],
        _ => [0, 0, 0, 0, (byte)Pick([8, 16, 32, 24, 0]), (byte)random.Next(40), (byte)random.Next(2),
            (byte)random.Next(2), .. Bytes(9), 0, 0, 0],
    };

    byte[] Encodings(int[] list) => [2, 0, .. Big16(list.Length), .. list.SelectMany(Big)];

    byte[] Area() => [.. Big16(random.Next(200)), .. Big16(random.Next(200)), .. Big16(random.Next(70000)),
        .. Big16(random.Next(70000))];

    public byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    T Pick<T>(T[] from) => from[random.Next(from.Length)];

    static byte[] Big(int value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(bytes, value);
        return bytes;
    }

    static byte[] Big16(int value) => [(byte)(value >> 8), (byte)value];
}
