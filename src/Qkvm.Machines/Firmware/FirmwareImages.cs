using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

/// <summary>Finds firmware files: in -L's directories, else among those embedded at build time.</summary>
public static class FirmwareImages
{
    public const string DefaultBios = "bios-256k.bin";

    const string ResourcePrefix = "firmware/";
    const int BiosUnit = 64 << 10, BiosLimit = 16 << 20;

    /// <summary>The file's contents, or null.</summary>
    public static byte[]? Find(FirmwareConfig config, string name)
    {
        foreach (string directory in config.SearchPaths)
        {
            string path = Path.Combine(directory, name);
            if (File.Exists(path)) return Read(path, $"-L {directory}");
        }
        using Stream? embedded = typeof(FirmwareImages).Assembly.GetManifestResourceStream(ResourcePrefix + name);
        if (embedded == null) return null;
        byte[] contents = new byte[embedded.Length];
        embedded.ReadExactly(contents);
        return contents;
    }

    /// <summary>The system firmware: -bios, a path or a name in the search directories, or SeaBIOS.</summary>
    public static byte[] FindBios(FirmwareConfig config)
    {
        string name = config.Bios ?? DefaultBios;
        byte[] bios = (config.Bios != null && File.Exists(name) ? Read(name, "-bios") : Find(config, name))
            ?? throw new ConfigurationException(config.Bios != null
                ? $"could not load PC BIOS '{name}': -bios takes a file, or the name of one in a directory of -L"
                : $"could not load PC BIOS '{name}': this build embeds no firmware; give -L DIRECTORY or -bios FILE");
        if (bios.Length == 0 || bios.Length % BiosUnit != 0 || bios.Length > BiosLimit)
            throw new ConfigurationException(
                $"-bios {name}: {bios.Length} bytes; the size of a BIOS image is a multiple of 64 KiB, up to 16 MiB");
        return bios;
    }

    static byte[] Read(string path, string option)
    {
        try { return File.ReadAllBytes(path); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"{option}: cannot read {path}: {e.Message}", e);
        }
    }
}
