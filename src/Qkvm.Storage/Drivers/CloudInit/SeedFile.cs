using System.Text;

namespace Qkvm.Storage.Drivers.CloudInit;

/// <summary>A file on the disk, by the name that cloud-init looks for.</summary>
sealed record SeedFile(string Name, byte[] Data)
{
    const int MaxLength = 16 << 20;

    /// <summary>First lines by which cloud-init tells what user-data is. Spec: cloud-init,
    /// "User data formats".</summary>
    static readonly string[] s_kinds =
    [
        "#cloud-config", "#!", "#include", "#cloud-boothook", "#part-handler", "#upstart-job", "## template:",
        "Content-Type:", "MIME-Version:",
    ];

    public SeedFile(string name, string text) : this(name, Encoding.UTF8.GetBytes(text)) { }

    /// <exception cref="ConfigurationException">The file cannot be read, is too big, or is nothing that cloud-init
    /// would understand.</exception>
    public static SeedFile Read(string name, string path, Properties properties)
    {
        byte[] data = ReadAll(name, path, properties);
        if (name is "user-data" or "vendor-data") CheckKind(name, path, data, properties);
        else CheckYaml(name, path, Text(name, path, data, properties), properties);
        return new SeedFile(name, data);
    }

    public static byte[] ReadAll(string name, string path, Properties properties)
    {
        try
        {
            using FileStream file = System.IO.File.OpenRead(path);
            var data = new byte[MaxLength + 1];
            int length = file.ReadAtLeast(data, data.Length, throwOnEndOfStream: false);
            return length <= MaxLength ? data[..length]
                : throw properties.Error($"{name}={path}: is longer than {MaxLength >> 20} MiB");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw properties.Error($"{name}={path}: {e.Message}");
        }
    }

    public static string Text(string name, string path, byte[] data, Properties properties)
    {
        try { return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(data); }
        catch (ArgumentException) { throw properties.Error($"{name}={path}: is no text in UTF-8"); }
    }

    static void CheckKind(string name, string path, byte[] data, Properties properties)
    {
        bool isGzip = data is [0x1F, 0x8B, ..];
        if (data.Length == 0 || isGzip) return;
        string text = Text(name, path, data, properties);
        if (!Array.Exists(s_kinds, kind => text.StartsWith(kind, StringComparison.OrdinalIgnoreCase)))
            throw properties.Error($"{name}={path}: cloud-init would not know what it is; begin it with a line "
                + "#cloud-config, or with #! and an interpreter");
        if (text.StartsWith(s_kinds[0], StringComparison.Ordinal)) CheckYaml(name, path, text, properties);
    }

    /// <summary>The mistake that costs most: cloud-init tells of it in a guest that nobody can log in to.</summary>
    static void CheckYaml(string name, string path, string text, Properties properties)
    {
        string[] lines = text.Split('\n');
        for (int i = 0; i < lines.Length; i++)
            if (lines[i].StartsWith('\t') && !string.IsNullOrWhiteSpace(lines[i]))
                throw properties.Error($"{name}={path}: line {i + 1} begins with a tab, which YAML does not take; "
                    + "indent it with spaces");
    }
}
