using System.IO.Enumeration;
using System.Text.Json;
using Qkvm.Core.Machine;
using Qkvm.Machines.Pc;

namespace Qkvm;

/// <summary>-machine firmware=uefi: takes the distribution's firmware for the machine, and keeps its variables beside
/// the first disk. Spec of the descriptors: QEMU's docs/interop/firmware.json.</summary>
static class UefiFirmware
{
    const string Package = "ovmf";

    /// <summary>Firmware that wants more than this option alone: smm=on, secure flash, keys.</summary>
    static readonly string[] Unwanted = ["requires-smm", "secure-boot", "enrolled-keys"];

    /// <param name="Code">What is executed; raw.</param>
    /// <param name="Variables">What a machine's variables begin as; raw.</param>
    internal sealed record Image(string Code, string Variables);

    /// <summary>Where descriptors lie; the later go before the earlier.</summary>
    internal static string[] Directories => ["/usr/share/qemu/firmware", "/etc/qemu/firmware", Path.Combine(
        Environment.GetEnvironmentVariable("XDG_CONFIG_HOME") is { Length: > 0 } home ? home
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".config"),
        "qemu/firmware")];

    /// <summary>The same machine with the drives of its flash chips, if it wants them; the file of the variables is
    /// there then.</summary>
    /// <exception cref="ConfigurationException">There is no such firmware, or something else is named, too.</exception>
    public static MachineConfig Choose(MachineConfig config, string[]? directories = null)
    {
        Options machine = config.MachineOptions;
        if (machine.Text(PcParts.FirmwareOption) != PcParts.Uefi) return config;
        if (config.Firmware.Bios is { } bios)
            throw machine.Error($"-bios {bios} names another firmware; leave one out");
        if (SystemFlash.Units.FirstOrDefault(machine.Has) is { } unit)
            throw machine.Error($"{unit}= or if=pflash names another firmware; leave one out");
        directories ??= Directories;
        Image image = Find(config.MachineType, directories) ?? throw machine.Error("there is no UEFI firmware here for "
            + $"{config.MachineType} that needs no system management mode; apt-get install {Package}, or put a "
            + $"descriptor into {directories[^1]}");
        string code = SystemFlash.Units[0], variables = SystemFlash.Units[1];
        (string file, bool isKept) = Variables(config, image.Variables, machine);
        machine.Add(code, code);
        machine.Add(variables, variables);
        return config with
        {
            Drives = [.. config.Drives,
                new DriveConfig(code, image.Code, "raw", new Options(machine.Owner)) { ReadOnly = true },
                new DriveConfig(variables, file, "raw", new Options(machine.Owner)) { Snapshot = !isKept }],
        };
    }

    /// <summary>The first that serves, by the names of the descriptors; null: there is none.</summary>
    internal static Image? Find(string machine, string[] directories)
    {
        var descriptors = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (string directory in directories.Where(Directory.Exists))
            foreach (string path in Directory.GetFiles(directory, "*.json")) descriptors[Path.GetFileName(path)] = path;
        foreach (string path in descriptors.Values)
            if (Read(path, machine) is { } image && File.Exists(image.Code) && File.Exists(image.Variables))
                return image;
        return null;
    }

    /// <summary>Null for firmware of another kind; an empty file hides one of the same name.</summary>
    static Image? Read(string path, string machine)
    {
        try
        {
            byte[] text = File.ReadAllBytes(path);
            if (text.Length == 0) return null;
            using JsonDocument document = JsonDocument.Parse(text);
            JsonElement all = document.RootElement, mapping = all.GetProperty("mapping");
            if (!Texts(all, "interface-types").Contains("uefi") || mapping.GetProperty("device").GetString() != "flash"
                || mapping.TryGetProperty("mode", out JsonElement mode) && mode.GetString() != "split"
                || Texts(all, "features").Intersect(Unwanted).Any()
                || !all.GetProperty("targets").EnumerateArray().Any(target => Serves(target, machine))) return null;
            return RawFile(mapping, "executable") is { } code
                && RawFile(mapping, "nvram-template") is { } variables ? new Image(code, variables) : null;
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new ConfigurationException($"-machine firmware=uefi: {path} is no firmware descriptor: {e.Message}",
                e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"-machine firmware=uefi: cannot read {path}: {e.Message}", e);
        }
    }

    static bool Serves(JsonElement target, string machine) => target.GetProperty("architecture").GetString() == "x86_64"
        && Texts(target, "machines").Any(pattern => FileSystemName.MatchesSimpleExpression(pattern, machine, false));

    static string? RawFile(JsonElement mapping, string role)
    {
        JsonElement file = mapping.GetProperty(role);
        return file.GetProperty("format").GetString() == "raw" ? file.GetProperty("filename").GetString() : null;
    }

    static IEnumerable<string> Texts(JsonElement element, string name) =>
        element.GetProperty(name).EnumerateArray().Select(text => text.GetString() ?? "");

    /// <summary>NAME.nvram.fd beside the first disk NAME.qcow2, made of the template where it is not there yet. The
    /// template itself, not to be kept, for a machine whose disk is not kept either, or is no file.</summary>
    static (string File, bool IsKept) Variables(MachineConfig config, string template, Options machine)
    {
        DriveConfig? disk = config.Drives.FirstOrDefault(drive => drive is { File: not null, IsCdrom: false,
            ReadOnly: false });
        if (disk is not { Snapshot: false, File: { } name } || !File.Exists(name)
            || name.StartsWith("/dev/", StringComparison.Ordinal)) return (template, false);
        string file = Path.Combine(Path.GetDirectoryName(name) ?? "",
            $"{Path.GetFileNameWithoutExtension(name)}.nvram.fd");
        try
        {
            if (!File.Exists(file)) File.WriteAllBytes(file, File.ReadAllBytes(template));
            long size = new FileInfo(file).Length, wanted = new FileInfo(template).Length;
            if (size != wanted)
                throw machine.Error($"{file} has {size} bytes, the variables of this firmware {wanted}; move it away, "
                    + "and a new one is made");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw machine.Error($"cannot make {file} for the firmware's variables: {e.Message}", e);
        }
        return (file, true);
    }
}
