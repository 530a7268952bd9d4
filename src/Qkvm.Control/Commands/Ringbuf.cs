using System.Text;
using System.Text.Json.Serialization;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<DataFormat>))]
public enum DataFormat { Utf8, Base64 }

/// <param name="Size">Bytes.</param>
public sealed record RingbufReadArguments(string Device, long Size, DataFormat Format = DataFormat.Utf8);

public sealed record RingbufWriteArguments(string Device, string Data, DataFormat Format = DataFormat.Utf8);

/// <summary>ringbuf-read and ringbuf-write: what a chardev ringbuf keeps.</summary>
static class Ringbuf
{
    public static readonly Command Read = new Command<RingbufReadArguments, string>("ringbuf-read",
        RingbufJson.Default, static (context, arguments) =>
    {
        ICharBackend device = Find(context, arguments.Device);
        if (arguments.Size <= 0) throw new CommandException("size must be greater than zero");
        byte[] data = ((IKeptOutput)device.Stream).Read((int)Math.Min(arguments.Size, Array.MaxLength));
        return arguments.Format == DataFormat.Base64 ? Convert.ToBase64String(data) : Encoding.UTF8.GetString(data);
    })
    {
        Human = new("ringbuf_read", "device size", "Read from a ring buffer character device",
            words => new RingbufReadArguments(words.Word(), words.Integer()),
            (monitor, text) =>
        {
            foreach (char c in text) monitor.Write(c == '\\' ? "\\\\" : c < ' ' && c != '\n' || c == 0x7F
                ? $"\\u{(int)c:X4}" : $"{c}");
            monitor.Write("\n");
        }),
        Completes = [Hmp.Completions.Ringbufs],
    };

    public static readonly Command Write = new Command<RingbufWriteArguments, Nothing>("ringbuf-write",
        RingbufJson.Default, static (context, arguments) =>
    {
        ICharBackend device = Find(context, arguments.Device);
        byte[] data = Encoding.UTF8.GetBytes(arguments.Data);
        if (arguments.Format == DataFormat.Base64)
        {
            try { data = Convert.FromBase64String(arguments.Data); }
            catch (FormatException e) { throw new CommandException($"invalid base64 data: {e.Message}", inner: e); }
        }
        device.Write(data);
        return Nothing.Value;
    })
    {
        Human = new("ringbuf_write", "device data", "Write to a ring buffer character device",
            words => new RingbufWriteArguments(words.Word(), words.Word())),
        Completes = [Hmp.Completions.Ringbufs],
    };

    static ICharBackend Find(CommandContext context, string id)
    {
        ICharBackend device = context.Backends.Chardevs.GetValueOrDefault(id)
            ?? throw new CommandException($"Device '{id}' not found");
        return device.Stream is IKeptOutput ? device : throw new CommandException($"{id} is not a ringbuf device");
    }
}

[JsonSerializable(typeof(RingbufReadArguments))]
[JsonSerializable(typeof(RingbufWriteArguments))]
[JsonSerializable(typeof(string))]
sealed partial class RingbufJson : JsonSerializerContext;
