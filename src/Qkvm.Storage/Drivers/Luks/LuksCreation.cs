using System.Text.Unicode;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Luks;

/// <summary>Makes luks volumes as <c>qemu-img create -f luks</c> does.</summary>
static class LuksCreation
{
    public static readonly ImageCreation Model = new(
        [Property.Size("size", help: "Virtual disk size"), .. Options("")], CreateAsync)
    {
        MeasureAsync = static measuring =>
        {
            Secret(measuring.Options, "");
            long all = LuksHeader.TotalSize(KeyBytes(measuring.Options, "")) + measuring.Size;
            return new(new Measurement(all, all));
        },
    };

    const int DefaultMilliseconds = 2000;

    /// <summary>What of a new volume can be said, also of one inside another format.</summary>
    public static IEnumerable<Property> Options(string prefix) =>
    [
        Property.Text($"{prefix}key-secret", help: prefix == ""
            ? "ID of the secret that provides the keyslot passphrase"
            : "ID of secret providing qcow AES key or LUKS passphrase"),
        Property.Text($"{prefix}cipher-alg", help: "Name of encryption cipher algorithm"),
        Property.Text($"{prefix}cipher-mode", help: "Name of encryption cipher mode"),
        Property.Text($"{prefix}ivgen-alg", help: "Name of IV generator algorithm"),
        Property.Text($"{prefix}ivgen-hash-alg", help: "Name of IV generator hash algorithm"),
        Property.Text($"{prefix}hash-alg", help: "Name of encryption hash algorithm"),
        IterTime(prefix),
    ];

    public static Property IterTime(string prefix) =>
        Property.Automatic($"{prefix}iter-time", help: "Time to spend in PBKDF in milliseconds")
            with { Default = null };

    public static int Milliseconds(Properties options, string prefix) =>
        (options.NumberOrAuto($"{prefix}iter-time") ?? DefaultMilliseconds) is var given && given is > 0 and <= 60_000
            ? (int)given
            : throw new ConfigurationException("iter-time must be between 1 and 60000 milliseconds");

    /// <summary>Header and key material, for their places.</summary>
    public static (byte[] Header, byte[] Material, LuksHeader Facts, byte[] Key) Make(NewImage image, string prefix)
    {
        Properties options = image.Options;
        string secret = Secret(options, prefix);
        int keyBytes = KeyBytes(options, prefix);
        Only("cipher-mode", "xts");
        Only("ivgen-alg", "plain64");
        string hash = options.Text($"{prefix}hash-alg") ?? "sha256";
        if (hash is not ("sha1" or "sha256" or "sha512"))
            throw image.Error($"Hash algorithm '{hash}' is not supported; there are sha1, sha256 and sha512");
        (LuksHeader header, byte[] material, byte[] key) = LuksKeys.Create(Passphrase(image.Secret, secret), keyBytes,
            hash, Milliseconds(options, prefix));
        return (header.ToBytes(), material, header, key);

        void Only(string name, string value)
        {
            if (options.Text($"{prefix}{name}") is { } given && given != value)
                throw image.Error($"{prefix}{name}={given} is not supported; there is {value}");
        }
    }

    /// <summary>As others demand of a passphrase who open the volume.</summary>
    public static byte[] Passphrase(Func<string, byte[]> secrets, string id) =>
        secrets(id) is var bytes && Utf8.IsValid(bytes) ? bytes
            : throw new ConfigurationException($"Data from secret {id} is not valid UTF-8");

    static string Secret(Properties options, string prefix) => options.Text($"{prefix}key-secret")
        ?? throw new ConfigurationException($"Parameter '{prefix}key-secret' is required for cipher");

    static int KeyBytes(Properties options, string prefix) => options.Text($"{prefix}cipher-alg") switch
    {
        null or "aes-256" => 64,
        "aes-128" => 32,
        string other => throw new ConfigurationException(
            $"Algorithm '{other}' is not supported; there are aes-128 and aes-256"),
    };

    static async ValueTask CreateAsync(NewImage image)
    {
        (byte[] header, byte[] material, LuksHeader facts, _) = Make(image, "");
        await image.File.WriteAsync(facts.KeySlots[0].Offset, new ScatterList(material)).ConfigureAwait(false);
        long end = facts.PayloadOffset + image.Size;
        await image.File.WriteAsync(end - 1, new ScatterList(new byte[1])).ConfigureAwait(false);
        await image.File.FlushAsync().ConfigureAwait(false);
        await image.File.WriteAsync(0, new ScatterList(header)).ConfigureAwait(false);
        await image.File.FlushAsync().ConfigureAwait(false);
    }
}
