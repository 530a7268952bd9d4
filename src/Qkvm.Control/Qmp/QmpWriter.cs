using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Qmp;

/// <summary>Writes lines as QEMU does: ASCII alone, blanks after colons and commas, \r\n at the end.</summary>
sealed class QmpWriter(bool pretty)
{
    /// <summary>Quotes and angle brackets as they are: nobody shows this on a page.</summary>
    public static readonly JsonWriterOptions Compact =
        new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    static readonly JsonWriterOptions Pretty = Compact with { Indented = true, IndentSize = 4 };

    static readonly JsonDocumentOptions s_deep = new() { MaxDepth = JsonStream.MaxDepth };

    readonly ArrayBufferWriter<byte> _json = new();
    readonly ByteBuffer _line = new();

    /// <summary>The line; valid until the next.</summary>
    public ReadOnlyMemory<byte> Line(Action<Utf8JsonWriter> write)
    {
        _json.ResetWrittenCount();
        using (var writer = new Utf8JsonWriter(_json, pretty ? Pretty : Compact)) write(writer);
        _line.Clear();
        Rewrite(_json.WrittenSpan);
        _line.Add("\r\n"u8);
        return _line.Memory;
    }

    public static void Return(Utf8JsonWriter w, JsonElement id, ReadOnlySpan<byte> result)
    {
        w.WriteStartObject();
        w.WritePropertyName("return");
        if (w.Options.Indented) JsonDocument.Parse(result.ToArray(), s_deep).WriteTo(w);
        else w.WriteRawValue(result, skipInputValidation: true);
        WriteId(w, id);
        w.WriteEndObject();
    }

    /// <summary>The id comes first here, as in QEMU.</summary>
    public static void Error(Utf8JsonWriter w, JsonElement id, CommandException error)
    {
        w.WriteStartObject();
        WriteId(w, id);
        w.WriteStartObject("error");
        w.WriteString("class", error.Class.ToString());
        w.WriteString("desc", error.Message);
        w.WriteEndObject();
        w.WriteEndObject();
    }

    public static void Event(Utf8JsonWriter w, MachineEvent happened, JsonSerializerOptions json, DateTimeOffset when)
    {
        w.WriteStartObject();
        w.WriteStartObject("timestamp");
        w.WriteNumber("seconds", when.ToUnixTimeSeconds());
        w.WriteNumber("microseconds", when.Ticks / TimeSpan.TicksPerMicrosecond % 1_000_000);
        w.WriteEndObject();
        w.WriteString("event", EventCatalogue.Of(happened).Name);
        JsonTypeInfo type = json.GetTypeInfo(happened.GetType());
        if (type.Properties.Any(p => p.Get != null))
        {
            w.WritePropertyName("data");
            JsonSerializer.Serialize(w, happened, type);
        }
        w.WriteEndObject();
    }

    static void WriteId(Utf8JsonWriter w, JsonElement id)
    {
        if (id.ValueKind == JsonValueKind.Undefined) return;
        w.WritePropertyName("id");
        id.WriteTo(w);
    }

    void Rewrite(ReadOnlySpan<byte> json)
    {
        bool inString = false;
        Span<char> utf16 = stackalloc char[2];
        for (int i = 0; i < json.Length; i++)
        {
            byte b = json[i];
            if (b >= 0x80)
            {
                Rune.DecodeFromUtf8(json[i..], out Rune rune, out int length);
                foreach (char c in utf16[..rune.EncodeToUtf16(utf16)])
                    _line.Add(Encoding.ASCII.GetBytes($"\\u{(int)c:X4}"));
                i += length - 1;
                continue;
            }
            _line.Add(b);
            if (b == '\\') _line.Add(json[++i]);
            else if (b == '"') inString = !inString;
            else if (!inString && !pretty && (b == ',' || b == ':')) _line.Add((byte)' ');
        }
    }
}
