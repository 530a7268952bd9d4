using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace Qkvm.Storage.Drivers.CloudInit;

/// <summary>The files of the disk, of what the user gave. Name and keys are meta-data, which every kind of user-data
/// goes with; a password is vendor-data, which user-data may overrule.</summary>
static partial class Seed
{
    public const string Label = "cidata";

    static readonly string[] s_metaData = ["hostname", "ssh-key"];

    public static IReadOnlyList<SeedFile> Of(Properties properties)
    {
        List<SeedFile> files =
            [Given("user-data", properties) ?? new SeedFile("user-data", "#cloud-config\n{}\n")];
        SeedFile? vendor = Given("vendor-data", properties);
        if (vendor != null) files.Add(vendor);
        if (properties.Text("password") is { } password)
            files.Add(vendor == null ? Password(password, properties)
                : throw properties.Error(
                    "password= and vendor-data= exclude each other; write password: into the file"));
        if (Given("network-config", properties) is { } network) files.Add(network);
        files.Add(MetaData(files, properties));
        return files;
    }

    static SeedFile? Given(string name, Properties properties) =>
        properties.Text(name) is { } path ? SeedFile.Read(name, path, properties) : null;

    static SeedFile MetaData(List<SeedFile> others, Properties properties)
    {
        if (Given("meta-data", properties) is { } given)
            return Array.Find(s_metaData, name => properties.Text(name) != null) is not { } name ? given
                : throw properties.Error($"{name}= and meta-data= exclude each other; write "
                    + $"{(name == "hostname" ? "local-hostname" : "public-keys")}: into the file");
        var text = new StringBuilder();
        if (properties.Text("hostname") is { } host)
            text.Append(CultureInfo.InvariantCulture, $"local-hostname: {CheckHost(host, properties)}\n");
        if (properties.Text("ssh-key") is { } keys)
        {
            text.Append("public-keys:\n");
            foreach (string key in Keys(keys, properties))
                text.Append(CultureInfo.InvariantCulture, $"- {Quoted(key)}\n");
        }
        return new SeedFile("meta-data", $"instance-id: iid-{Identity(others, text.ToString())}\n{text}");
    }

    static SeedFile Password(string password, Properties properties) =>
        password.Length > 0 && !password.Any(char.IsControl)
            ? new SeedFile("vendor-data", $"#cloud-config\npassword: {Quoted(password)}\n"
                + "chpasswd: {expire: false}\nssh_pwauth: true\n")
            : throw properties.Error("password= is empty or has control characters");

    /// <summary>Of RFC 1123, section 2.1.</summary>
    static string CheckHost(string name, Properties properties) =>
        name.Length <= 253 && HostName().IsMatch(name) ? name
            : throw properties.Error($"hostname={name}: expects letters, digits and hyphens, with dots between parts");

    static IEnumerable<string> Keys(string path, Properties properties)
    {
        string text = SeedFile.Text("ssh-key", path, SeedFile.ReadAll("ssh-key", path, properties), properties);
        if (text.Contains("PRIVATE KEY-----", StringComparison.Ordinal))
            throw properties.Error($"ssh-key={path}: is a private key, which stays with you; give {path}.pub");
        string[] keys = [.. text.Split('\n').Select(line => line.Trim())
            .Where(line => line.Length > 0 && line[0] != '#')];
        foreach (string key in keys)
            if (!PublicKey().IsMatch(key))
                throw properties.Error($"ssh-key={path}: '{(key.Length > 20 ? key[..20] + "…" : key)}' is no public "
                    + "key of OpenSSH; give a file as ssh-keygen writes it, NAME.pub");
        return keys.Length > 0 ? keys : throw properties.Error($"ssh-key={path}: has no key");
    }

    /// <summary>A string of YAML, which has no control characters.</summary>
    static string Quoted(string text) => $"\"{text.Replace("\\", @"\\").Replace("\"", "\\\"")}\"";

    /// <summary>cloud-init acts on what it has not seen yet: other contents are another instance.</summary>
    static string Identity(List<SeedFile> files, string text)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (SeedFile file in files)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(file.Name + "\0"));
            hash.AppendData(BitConverter.GetBytes(file.Data.Length));
            hash.AppendData(file.Data);
        }
        hash.AppendData(Encoding.UTF8.GetBytes(text));
        return Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, 8));
    }

    [GeneratedRegex(@"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\z")]
    private static partial Regex HostName();

    [GeneratedRegex(@"^(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,2}( [^\x00-\x1F]*)?\z")]
    private static partial Regex PublicKey();
}
