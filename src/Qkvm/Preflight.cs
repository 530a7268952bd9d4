using Qkvm.Backends.Char;
using Qkvm.Backends.Display.Curses;
using Qkvm.Core.Devices;
using Qkvm.Core.Logging;
using Qkvm.Core.Machine;
using Qkvm.Machines;

namespace Qkvm;

/// <summary>Refuses what cannot be made, by names and properties alone, before anything is opened or changed.</summary>
static class Preflight
{
    const ulong MostMemory = (1UL << 40) - (4UL << 30);            // of 40 address bits, beside what PCI needs

    /// <exception cref="ConfigurationException">Names the option, what is missing or wrong, and what would be
    /// right.</exception>
    public static void Check(MachineConfig config)
    {
        Of(Catalogue.Machines, config.MachineType, config.MachineOptions);
        CheckMemory(config.Memory);
        CheckLog(config);
        CheckAccelerators(config.Accelerators);
        foreach (ObjectConfig made in config.Objects) Of(Catalogue.Objects, made.Type, made.Options);
        foreach (BlockdevConfig node in config.Blockdevs) Catalogue.BlockDrivers.Get(node.Driver, node.Options.Owner);
        foreach (DriveConfig drive in config.Drives)
            if (drive.Format is { } format) Catalogue.BlockDrivers.Get(format, drive.Owner);
        foreach (ChardevConfig chardev in config.Chardevs) Of(Catalogue.Chardevs, chardev.Backend, chardev.Options);
        foreach (NetdevConfig netdev in config.Netdevs) Of(Catalogue.Netdevs, netdev.Type, netdev.Options);
        foreach (TpmConfig tpm in config.Tpms) Of(Catalogue.Tpms, tpm.Type, tpm.Options);
        foreach (FolderConfig folder in config.Folders) Of(Catalogue.FileSystems, folder.Driver, folder.Options);
        foreach (AudioConfig audiodev in config.Audiodevs)
            Of(Catalogue.Audiodevs, audiodev.Driver, audiodev.Options);
        foreach (DisplayConfig display in config.Displays) Of(Catalogue.Displays, display.Kind, display.Options);
        foreach (DeviceConfig device in config.Devices) CheckDevice(device, config.Globals);
    }

    static void CheckLog(MachineConfig config)
    {
        AddressFilter.Parse(config.LogFilters);
        foreach (string item in config.LogItems)
        {
            LogItems.Parse(item, [], out (string Item, string? Reason)? wrong);
            if (wrong is not ({ } name, var reason)) continue;
            IEnumerable<string> all = LogItems.All.Select(known => known.Name);
            throw new ConfigurationException(reason != null ? $"-d {name}: {reason}; leave it out"
                : $"-d {name}: unknown log item{Suggestion.For(name, all)}; there are {string.Join(", ", all)}, all "
                    + "and trace:PATTERN ('-d help' explains them)");
        }
    }

    /// <summary>A daemon has no terminal.</summary>
    public static void CheckDaemon(MachineConfig config)
    {
        foreach (ChardevConfig chardev in config.Chardevs)
            if (chardev.Backend == StdioChar.Model.Name)
                throw new ConfigurationException(config.NoGraphic && !chardev.Owner.StartsWith('-')
                    ? "-nographic cannot be used with -daemonize; write -display none and say where -serial and "
                        + "-monitor go"
                    : $"{chardev.Owner}: cannot use stdio with -daemonize; a socket or pty can be reached later");
        foreach (DisplayConfig display in config.Displays)
            if (display.Kind == CursesDisplay.Model.Name)
                throw new ConfigurationException($"{display.Owner}: curses display cannot be used with -daemonize; "
                    + "-display vnc=… can be reached later");
    }

    static void CheckDevice(DeviceConfig device, IReadOnlyList<GlobalConfig> globals)
    {
        DeviceModel model = Catalogue.Devices.Get(device.Driver, device.Owner);
        _ = new Properties(model, device.Properties, DeviceFactory.Globals(model, globals));
    }

    /// <summary>One of those to try must be there; the others are passed over.</summary>
    static void CheckAccelerators(IReadOnlyList<AcceleratorConfig> wanted)
    {
        foreach (AcceleratorConfig accelerator in wanted)
            if (Catalogue.Accelerators.Find(accelerator.Name) is { } model) _ = new Properties(model,
                accelerator.Options);
            else if (wanted.Count == 1) Catalogue.Accelerators.Get(accelerator.Name, accelerator.Options.Owner);
    }

    static void CheckMemory(MemoryConfig memory)
    {
        if (memory.Size > MostMemory)
            throw new ConfigurationException($"-m {memory.Size >> 20}M: guests have 40 address bits, of which memory "
                + $"can have {MostMemory >> 20} MiB");
    }

    static void Of<TModel>(Catalogue<TModel> catalogue, string name, Options options) where TModel : Model =>
        _ = new Properties(catalogue.Get(name, options.Owner), options);
}
