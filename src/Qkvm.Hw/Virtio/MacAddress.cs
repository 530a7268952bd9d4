using System.Globalization;
using Qkvm.Core.Devices;

namespace Qkvm.Hw.Virtio;

/// <summary>An Ethernet address as users type it: 52:54:00:12:34:56.</summary>
static class MacAddress
{
    public const int Length = 6;

    /// <summary>What a card gets when nobody chose one.</summary>
    public static byte[] Default => [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

    public static string Format(ReadOnlySpan<byte> mac) =>
        $"{mac[0]:x2}:{mac[1]:x2}:{mac[2]:x2}:{mac[3]:x2}:{mac[4]:x2}:{mac[5]:x2}";

    public static byte[] Parse(string text, string owner)
    {
        string[] parts = text.Split(text.Contains('-') ? '-' : ':');
        var bytes = new byte[Length];
        bool valid = parts.Length == Length;
        for (int i = 0; valid && i < Length; i++)
            valid = parts[i].Length is 1 or 2
                && byte.TryParse(parts[i], NumberStyles.AllowHexSpecifier, null, out bytes[i]);
        if (!valid)
            throw new ConfigurationException($"{owner}: mac: '{text}' is no Ethernet address; give six bytes such " +
                "as 52:54:00:12:34:56");
        if ((bytes[0] & 1) != 0)
            throw new ConfigurationException($"{owner}: mac: '{text}' is a multicast address; make the first byte " +
                "even");
        return bytes;
    }
}
