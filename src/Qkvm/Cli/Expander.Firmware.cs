using Qkvm.Core.Machine;

namespace Qkvm.Cli;

/// <summary>What starts the machine, and what it tells the guest of itself.</summary>
public sealed partial class Expander
{
    string? _kernel, _initrd, _append;
    string? _bios;
    readonly List<string> _searchPaths = [];

    void TakeFirmwareOption(string name, string argument, string owner)
    {
        switch (name)
        {
            case "boot": _config = _config with { Boot = TakeBoot(argument, owner) }; break;
            case "kernel": _kernel = argument; break;
            case "initrd": _initrd = argument; break;
            case "append": _append = argument; break;
            case "bios": _bios = argument; break;
            case "L": _searchPaths.Add(argument); break;
            case "smbios": AddSmbios(argument, owner); break;
            case "acpitable":
                _config = _config with { AcpiTables = [.. _config.AcpiTables, Options.Parse(argument, owner)] };
                break;
            case "fw_cfg": AddFwCfg(argument, owner); break;
        }
    }

    static BootConfig TakeBoot(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "order");
        string order = options.Text("order") ?? "cad";
        string? once = options.Text("once");
        foreach (char letter in order + once)
            if (letter is < 'a' or > 'p')
                throw new ConfigurationException($"{owner}: '{letter}' is no boot device: use a (floppy), c (disk), " +
                    "d (CD-ROM), n (network)");
        var boot = new BootConfig(order, once, options.Bool("menu") ?? false, options.Bool("strict") ?? false)
        {
            Splash = options.Text("splash"),
            SplashTime = (ushort?)options.Int("splash-time", 0, 65535),
            RebootTimeout = options.Text("reboot-timeout") is { } timeout ? int.TryParse(timeout, out int ms)
                && ms is >= -1 and <= 65535 ? ms
                : throw new ConfigurationException($"{owner}: reboot-timeout={timeout}: expects -1 to 65535 " +
                "milliseconds") : null,
        };
        options.Close();
        return boot;
    }

    void AddSmbios(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        int? type = options.Int("type", 0, 255);
        string? file = options.Text("file");
        if (type == null && file == null) throw new ConfigurationException($"{owner}: needs type= or file=");
        _config = _config with { Smbios = [.. _config.Smbios, new SmbiosConfig(type, file, [.. options.Rest])] };
    }

    void AddFwCfg(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "name");
        string? name = options.Text("name"), file = options.Text("file"), content = options.Text("string");
        options.Close();
        if (string.IsNullOrEmpty(name) || (file == null) == (content == null))
            throw new ConfigurationException($"{owner}: expects name=opt/…, and file= or string=");
        _config = _config with { FwCfg = [.. _config.FwCfg, new FwCfgConfig(name, file, content)] };
    }

    void FinishFirmware()
    {
        if (_kernel == null && (_initrd ?? _append) != null)
            throw new ConfigurationException($"{(_initrd != null ? $"-initrd {_initrd}" : "-append")}: only allowed " +
                "with -kernel");
        _config = _config with
        {
            Kernel = _kernel == null ? null : new KernelConfig(_kernel, _initrd, _append ?? ""),
            Firmware = new FirmwareConfig(_bios) { SearchPaths = [.. _searchPaths] },
        };
    }
}
