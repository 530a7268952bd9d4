using System.Text.RegularExpressions;

namespace Qkvm.Host;

/// <summary>What the host says of its PCI functions that could be given to guests. Linux,
/// Documentation/driver-api/vfio.rst.</summary>
/// <param name="sys">Where sysfs is mounted.</param>
/// <param name="dev">Where device nodes are.</param>
public sealed partial class VfioHost(string sys = "/sys", string dev = "/dev")
{
    const string Driver = "vfio-pci";

    /// <summary>Drivers beside which a group is viable: they touch no memory.</summary>
    static readonly string[] s_harmless = [Driver, "pci-stub", "pcieport", "vfio-pci-core"];

    /// <summary>The function of an address, [DDDD:]BB:DD.F; null where it is none.</summary>
    public string? Find(string address)
    {
        Match match = Address().Match(address);
        if (!match.Success) return null;
        string domain = match.Groups["domain"] is { Success: true } given ? given.Value.PadLeft(4, '0') : "0000";
        return Path.Combine(sys, "bus/pci/devices", $"{domain}:{match.Groups["rest"].Value}".ToLowerInvariant());
    }

    /// <summary>Why a function cannot be given away, and what is to be done about it; null where nothing stands in the
    /// way.</summary>
    /// <param name="device">Its folder in sysfs.</param>
    public string? Obstacle(string device)
    {
        if (!Directory.Exists(device)) return $"vfio {device}: no such host device; lspci -D lists those there are";
        string name = LinkedName(device) ?? Path.GetFileName(device.TrimEnd('/'));
        string binding = $"bind it: driverctl set-override {name} {Driver}";
        if (LinkedName(Path.Combine(device, "subsystem")) is { } subsystem && subsystem != "pci")
            return $"vfio {name}: it is on the host's bus {subsystem}; give a PCI function";
        string groupLink = Path.Combine(device, "iommu_group");
        if (LinkedName(groupLink) is not { } group)
            return $"vfio {name}: no iommu_group found: " + (HasIommu ? "it is behind none of the host's IOMMUs; give "
                + "another" : "this host has no IOMMU, or does not use it: switch it on in the firmware, boot with "
                + $"intel_iommu=on or amd_iommu=on, then {binding}");
        if (LinkedName(Path.Combine(device, "driver")) is not Driver and var driver)
            return $"vfio {name}: {(driver == null ? "no driver of the host" : $"the host's driver {driver}")} has it; "
                + binding;
        if (OtherOf(groupLink, name) is var (other, owner))
            return $"vfio {name}: group {group} is not viable: the host's driver {owner} has {other}, which can reach "
                + $"the same memory; bind that, too: driverctl set-override {other} {Driver}";
        return Refused(Path.Combine(dev, "vfio/vfio"), "modprobe vfio-pci")
            ?? Refused(Path.Combine(dev, "vfio", group), $"modprobe vfio-pci, and {binding}");
    }

    bool HasIommu
    {
        get
        {
            string all = Path.Combine(sys, "class/iommu");
            return Directory.Exists(all) && Directory.EnumerateFileSystemEntries(all).Any();
        }
    }

    /// <summary>Another function of the group that a driver of the host has.</summary>
    static (string Name, string Driver)? OtherOf(string group, string name)
    {
        string devices = Path.Combine(group, "devices");
        if (!Directory.Exists(devices)) return null;
        foreach (string other in Directory.EnumerateFileSystemEntries(devices).Order(StringComparer.Ordinal))
            if (Path.GetFileName(other) is var found && found != name
                && LinkedName(Path.Combine(other, "driver")) is { } driver && !s_harmless.Contains(driver))
                return (found, driver);
        return null;
    }

    static string? Refused(string path, string whereMissing)
    {
        using HostFile? file = HostFile.Open(path, Libc.ORdWr, out int errno);
        if (file != null) return null;
        string remedy = errno == Errno.NoEntry ? $"run {whereMissing}"
            : errno == Errno.Access ? $"run as root, or give it to your user: chown $USER {path}"
            : "another process may have it";
        return $"vfio: cannot open '{path}': {Libc.Message(errno)}; {remedy}";
    }

    /// <summary>The last name of what a symbolic link leads to; null where there is none.</summary>
    static string? LinkedName(string link) => new FileInfo(link).LinkTarget is { } target
        ? Path.GetFileName(target.TrimEnd('/')) : null;

    [GeneratedRegex(@"^((?<domain>[0-9a-f]{1,4}):)?(?<rest>[0-9a-f]{2}:[01][0-9a-f]\.[0-7])$", RegexOptions.IgnoreCase)]
    private static partial Regex Address();
}
