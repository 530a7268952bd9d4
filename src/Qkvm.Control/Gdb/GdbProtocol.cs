using System.Globalization;
using System.Text;

namespace Qkvm.Control.Gdb;

/// <summary>How GDB's remote protocol writes things. GDB manual, appendix E.</summary>
static class GdbProtocol
{
    /// <summary>Bytes of data of the largest packet in either direction.</summary>
    public const int PacketSize = 0x4000;
    public const byte Escape = (byte)'}', EscapeBit = 0x20;

    public const string Ok = "OK", NotKnown = "";

    /// <summary>As QEMU numbers them: EINVAL and EFAULT.</summary>
    public const string Invalid = "E22", NoSuchMemory = "E14", NoSuchAnnex = "E00";

    // Signals by GDB's numbers (include/gdb/signals.def)
    public const int SignalInterrupt = 2, SignalQuit = 3, SignalTrap = 5, SignalAbort = 6, SignalAlarm = 14,
        SignalIo = 23, SignalUnknown = 143;

    /// <summary>-1: no hexadecimal digit.</summary>
    public static int DigitOf(byte b) => b switch
    {
        >= (byte)'0' and <= (byte)'9' => b - '0',
        >= (byte)'a' and <= (byte)'f' => b - 'a' + 10,
        >= (byte)'A' and <= (byte)'F' => b - 'A' + 10,
        _ => -1,
    };

    /// <summary>$data#checksum, with what must be escaped.</summary>
    public static byte[] Frame(ReadOnlySpan<byte> data)
    {
        var framed = new List<byte>(data.Length + 4) { (byte)'$' };
        byte sum = 0;
        foreach (byte b in data)
        {
            bool isSpecial = b is (byte)'$' or (byte)'#' or (byte)'*' or Escape;
            if (isSpecial) Add(Escape);
            Add(isSpecial ? (byte)(b ^ EscapeBit) : b);
        }
        framed.Add((byte)'#');
        framed.AddRange(Encoding.Latin1.GetBytes($"{sum:x2}"));
        return [.. framed];

        void Add(byte b)
        {
            framed.Add(b);
            sum += b;
        }
    }

    public static string Hex(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    /// <summary>Bytes of pairs of digits; null for anything else.</summary>
    public static byte[]? Bytes(string hex)
    {
        if (hex.Length % 2 != 0 || !hex.All(char.IsAsciiHexDigit)) return null;
        return Convert.FromHexString(hex);
    }

    /// <summary>A number of at most 16 digits, without a sign.</summary>
    public static bool TryNumber(ReadOnlySpan<char> hex, out ulong value)
    {
        value = 0;
        return hex.Length is > 0 and <= 16
            && ulong.TryParse(hex, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
    }

    /// <summary>"address,length": two numbers with something between.</summary>
    public static bool TryPair(string text, char between, out ulong first, out ulong second)
    {
        int at = text.IndexOf(between);
        second = 0;
        return TryNumber(at < 0 ? text : text.AsSpan(0, at), out first) && at >= 0
            && TryNumber(text.AsSpan(at + 1), out second);
    }
}
