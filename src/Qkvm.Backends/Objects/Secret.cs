using System.Text;
using Qkvm.Core.Machine;

namespace Qkvm.Backends.Objects;

/// <summary>-object secret: a password or key that other options name by its id, so that it need not stand among
/// them.</summary>
public sealed class Secret
{
    public static readonly ObjectModel Model = new("secret",
        [Property.Text("data", help: "the secret itself: others see it in the list of processes"),
            Property.Text("file", help: "where it is read from"),
            Property.Enum("format", "raw", ["raw", "base64"]),
            Property.Missing("keyid", remedy: "give the secret in a file that only its owner can read"),
            Property.Missing("iv")],
        static (properties, _) => Read(properties)) { Description = "a password or key for other options" };

    /// <summary>Longer than any key or password.</summary>
    const int MaximumLength = 64 << 10;

    Secret(byte[] value) => Value = value;

    public byte[] Value { get; }

    /// <summary>The same as UTF-8.</summary>
    public string Text => Encoding.UTF8.GetString(Value);

    /// <summary>The secret that properties name or hold.</summary>
    public static Secret Read(Properties properties)
    {
        string? data = properties.Text("data"), file = properties.Text("file");
        if (data != null && file != null)
            throw properties.Error("'data' and 'file' are mutually exclusive");
        byte[] value = data != null ? Encoding.UTF8.GetBytes(data)
            : file != null ? Read(file, properties)
            : throw properties.Error("must provide 'file' or 'data'");
        return new Secret(properties.Text("format") == "raw" ? value : Decode(value, properties));
    }

    static byte[] Read(string file, Properties properties)
    {
        try
        {
            using FileStream stream = File.OpenRead(file);
            var value = new byte[MaximumLength + 1];
            int length = stream.ReadAtLeast(value, value.Length, throwOnEndOfStream: false);
            return length <= MaximumLength ? value[..length]
                : throw properties.Error($"'{file}' has more than the {MaximumLength} bytes of a secret");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw properties.Error($"cannot read '{file}': {e.Message}");
        }
    }

    static byte[] Decode(byte[] text, Properties properties)
    {
        try
        {
            return Convert.FromBase64String(Encoding.Latin1.GetString(text));
        }
        catch (FormatException)
        {
            throw properties.Error("format=base64: the secret is not valid base64");
        }
    }
}
