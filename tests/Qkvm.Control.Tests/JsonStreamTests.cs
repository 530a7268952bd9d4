using System.Text;
using System.Text.Json;
using Qkvm.Control.Qmp;

namespace Qkvm.Control.Tests;

/// <summary>What becomes of what QMP clients send; the answers of QEMU 7.2 to the same input.</summary>
public class JsonStreamTests
{
    [Theory]
    [InlineData("{\"a\":1}", "{\"a\":1}")]
    [InlineData("{'a':'it\"s','b':'\\''}", "{\"a\":\"it\\\"s\",\"b\":\"'\"}")]
    [InlineData(" \r\n[true,false,null]\n{}", "[true,false,null]", "{}")]
    [InlineData("{\"a\":{}}{\"b\":[]}", "{\"a\":{}}", "{\"b\":[]}")]
    [InlineData("42 -0.5e+3 \"s\"", "42", "-0.5e+3", "\"s\"")]
    [InlineData("\"\\u00e9\\ud83d\\ude00\\u0000\\/\"", "\"\\u00e9\\ud83d\\ude00\\u0000\\/\"")]
    [InlineData("[18446744073709551615]", "[18446744073709551615]")]
    [InlineData("{\"a\":1,}", "!JSON parse error, expecting value")]
    [InlineData("[1,]", "!JSON parse error, expecting value")]
    [InlineData("{\"a\":1,\"a\":2}", "!JSON parse error, duplicate key")]
    [InlineData("{\"a\" \"b\"}", "!JSON parse error, missing : in object pair")]
    [InlineData("{\"a\":1 \"b\":2}", "!JSON parse error, expected separator in dict")]
    [InlineData("{1:2}", "!JSON parse error, key is not a string in object")]
    [InlineData("[1 2]", "!JSON parse error, expected separator in list")]
    [InlineData("tru ", "!JSON parse error, invalid keyword 'tru'")]
    [InlineData("} 1 ", "!JSON parse error, expecting value", "1")]
    [InlineData("{] 1 ", "!JSON parse error, expecting value", "1")]
    [InlineData("{}} 1 ", "{}", "!JSON parse error, expecting value", "1")]
    [InlineData("@\n1 ", "!JSON parse error, stray '@'", "1")]
    [InlineData("{\"a\":@} 1 ", "!JSON parse error, stray '@'", "!JSON parse error, expecting value", "1")]
    [InlineData("{\"a\":\"b\u0001\"} 1 ", "!JSON parse error, stray '\"b\u0001'",
        "!JSON parse error, expecting value", "1")]
    [InlineData("{\"a\":1.} 1 ", "!JSON parse error, stray '1.}'", "1")]
    [InlineData("01\n1 ", "!JSON parse error, stray '01'", "1")]
    [InlineData("-\n{}", "!JSON parse error, stray '-\n'", "{}")]
    [InlineData("TRUE\n1 ", "!JSON parse error, stray 'T'", "1")]
    [InlineData("\"\\x\" 1 ", "!JSON parse error, invalid escape sequence in string", "1")]
    [InlineData("\"\\ud83d\" 1 ", "!JSON parse error, \\ud83d is not a valid Unicode character", "1")]
    [InlineData("{\"id\":\"unterminated\n{}", "!JSON parse error, stray '\"unterminated\n'", "{}")]
    public void Values_and_errors_come_in_order_however_the_input_is_split(string input, params string[] expected)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(input);
        Assert.Equal(expected, Feed(bytes, bytes.Length));
        Assert.Equal(expected, Feed(bytes, 1));
        Assert.Equal(expected, Feed(bytes, 3));
    }

    [Theory]
    [InlineData(new byte[] { (byte)'"', 0xED, 0xA0, 0x80, (byte)'"' }, "!JSON parse error, invalid UTF-8 sequence " +
        "in string")]
    [InlineData(new byte[] { (byte)'"', 0xFF, (byte)'\n', (byte)'1', (byte)' ' },
        "!JSON parse error, stray '\"\uFFFD'", "1")]
    public void Bytes_that_are_no_UTF_8_are_refused(byte[] input, params string[] expected) =>
        Assert.Equal(expected, Feed(input, input.Length));

    [Fact]
    public void UTF_8_may_be_split_anywhere() =>
        Assert.Equal("é😀", JsonDocument.Parse(Assert.Single(Feed(Encoding.UTF8.GetBytes("\"é😀\""), 1)))
            .RootElement.GetString());

    [Fact]
    public void Depth_tokens_and_size_are_bounded_and_reading_goes_on()
    {
        string deepest = new string('[', JsonStream.MaxDepth) + new string(']', JsonStream.MaxDepth);
        Assert.Equal([deepest], Feed(Encoding.ASCII.GetBytes(deepest), 4096));
        Assert.Equal(["!JSON nesting depth limit exceeded", "1"],
            Feed(Encoding.ASCII.GetBytes(new string('[', 1_000_000) + "\n1 "), 4096));
        Assert.Equal(["!JSON token count limit exceeded", "1"],
            Feed(Encoding.ASCII.GetBytes("[" + string.Concat(Enumerable.Repeat("1,", JsonStream.MaxTokens / 2))
            + "1]\n1 "), 4096));

        var seen = new List<string>();
        JsonStream stream = Stream(seen);
        stream.Feed("\""u8);
        var chunk = new byte[1 << 20];
        Array.Fill(chunk, (byte)'a');
        long before = GC.GetTotalMemory(true);
        for (int i = 0; i < 1024; i++) stream.Feed(chunk);         // a gigabyte
        stream.Feed("\"\n1 "u8);
        Assert.Equal(["!JSON token size limit exceeded", "1"], seen);
        Assert.InRange(GC.GetTotalMemory(true) - before, long.MinValue, 8 << 20);
    }

    /// <summary>No input throws; whatever comes out is JSON.</summary>
    [Fact]
    public void Random_input_is_read_or_refused()
    {
        string[] pieces = ["{", "}", "[", "]", ",", ":", "\"", "'", "\\", "\\u", "d83d", "-", "0", "1.", "e", "true",
            "nul", "\n", " ", "\u0001", "é", "execute"];
        var random = new Random(1);
        int values = 0, errors = 0;
        JsonStream stream =
            new(document =>
            { values++;
            JsonDocument.Parse(document.RootElement.GetRawText(), new JsonDocumentOptions { MaxDepth = 2000 });
            document.Dispose(); }, _ => errors++);
        for (int i = 0; i < 50_000; i++)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(pieces[random.Next(pieces.Length)]);
            if (random.Next(50) == 0) random.NextBytes(bytes);
            stream.Feed(bytes);
        }
        Assert.True(values > 100 && errors > 1000, $"{values} values, {errors} errors");
    }

    static List<string> Feed(byte[] input, int piece)
    {
        var seen = new List<string>();
        JsonStream stream = Stream(seen);
        for (int i = 0; i < input.Length; i += piece) stream.Feed(input.AsSpan(i, Math.Min(piece, input.Length - i)));
        return seen;
    }

    static JsonStream Stream(List<string> seen) =>
        new(document => seen.Add(document.RootElement.GetRawText()), error => seen.Add("!" + error));
}
