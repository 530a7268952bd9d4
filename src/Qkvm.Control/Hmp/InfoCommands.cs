using Qkvm.Core.Accel;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;

namespace Qkvm.Control.Hmp;

/// <summary>The items of `info`.</summary>
static class InfoCommands
{
    public static readonly MonitorCommand[] All =
    [
        new("status", "", "show the current VM status (running|paused)", (m, _) =>
        {
            RunState state = m.Machine.State;
            string detail = state is RunState.Running or RunState.Paused ? "" : $" ({state.Text()})";
            m.Write($"VM status: {(state == RunState.Running ? "running" : "paused" + detail)}\n");
        }),
        new("version", "", "show the version of qkvm", (m, _) => m.Write($"{ProgramVersion.Text}\n")),
        new("name", "", "show the current VM name", (m, _) => { if (m.Machine.Config.Name.Length > 0) m.Write(m.Machine.Config.Name + "\n"); }),
        new("uuid", "", "show the current VM UUID", (m, _) => m.Write(m.Machine.Config.Uuid + "\n")),
        new("kvm", "", "show KVM information", (m, _) =>
            m.Write($"kvm support: {(m.Machine.Accelerator.IrqChip != null ? "enabled" : "disabled")}\n")),
        new("cpus", "", "show infos for each CPU", (m, _) =>
        {
            foreach (IVCpu cpu in m.Machine.Cpus)
                m.Write($"{(cpu == m.Cpu ? "*" : " ")} CPU #{cpu.Index}:{(cpu.IsHalted ? " (halted)" : "")}\n");
        }),
        new("registers", "[-a|vcpu]", "show the cpu registers (-a: all CPUs; vcpu: one of them; otherwise the current one)", Registers),
        new("block", "[device]", "show info of one block device or all block devices", Block),
        new("chardev", "", "show the character devices", (m, _) =>
        {
            foreach ((string id, ICharBackend chardev) in m.Backends.Chardevs) m.Write($"{id}: filename={chardev.Description}\n");
        }),
        new("network", "", "show the network state", (m, _) =>
        {
            foreach ((string id, INetBackend netdev) in m.Backends.Netdevs) m.Write($"{id}: {netdev.Description}\n");
        }),
        new("vnc", "", "show the vnc server status", (m, _) =>
        {
            if (m.Backends.RemoteDisplays.Count == 0) m.Write("None\n");
            foreach (IRemoteDisplay display in m.Backends.RemoteDisplays) m.Write(display.Describe());
        }),
        new("qtree", "", "show device tree", (m, _) => Tree(m, m.Machine.Tree, 0)),
        new("pci", "", "show PCI info", (m, _) => { foreach (PciDevice device in m.Machine.Board.Pci.Devices) Pci(m, device); }),
        new("mtree", "", "show memory tree", (m, _) =>
        {
            m.Write("address-space: memory\n");
            Region(m, m.Machine.Board.Memory.Root, 0, 1);
            m.Write("\naddress-space: I/O\n");
            Region(m, m.Machine.Board.Ports.Root, 0, 1);
        }),
        new("jit", "", "show dynamic compiler info", (m, _) => Translator(m)),
        new("history", "", "show the command line history", (m, _) =>
        {
            for (int i = 0; i < m.History.Count; i++) m.Write($"{i}: '{m.History[i]}'\n");
        }),
    ];

    static void Translator(IMonitor monitor)
    {
        if (monitor.Machine.Accelerator is not ITranslating translator) throw new MonitorException("JIT information is only available with accel=tcg");
        int index = 0;
        foreach (TranslatorStatistics s in translator.Statistics)
        {
            monitor.Write($"CPU #{index++}: translation buffer state\n");
            monitor.Write($"gen code size       {s.CodeBytes}/{s.CodeLimit}\n");
            monitor.Write($"gen data size       {s.DataBytes}/{s.DataLimit}\n");
            monitor.Write($"TB count            {s.Blocks}\n");
            monitor.Write($"TB flush count      {s.Evictions}\n");
            monitor.Write($"direct jump count   {s.Links}\n");
            monitor.Write($"site misses         {s.FastMisses}\n");
            monitor.Write($"TLB misses          {s.Misses}\n");
        }
    }

    static void Registers(IMonitor monitor, MonitorArguments arguments)
    {
        bool all = arguments.Flag("-a");
        IReadOnlyList<IVCpu> cpus = monitor.Machine.Cpus;
        if (!all && arguments.Left > 0)
        {
            ulong index = arguments.Number("vcpu");
            cpus = index < (ulong)cpus.Count ? [cpus[(int)index]] : throw new MonitorException($"CPU#{index} not available");
        }
        else if (!all) cpus = [monitor.Cpu];
        // Registers can be read only while the vCPUs stand.
        bool running = monitor.Machine.State == RunState.Running;
        if (running) monitor.Machine.Pause();
        string text = string.Concat(cpus.Select(cpu => $"\nCPU#{cpu.Index}\n{cpu.DumpRegisters().TrimEnd('\n')}\n"));
        if (running) monitor.Machine.Resume();
        monitor.Write(text);
    }

    static void Block(IMonitor monitor, MonitorArguments arguments)
    {
        string? wanted = arguments.Optional();
        bool any = false;
        foreach ((string id, BlockBackend drive) in monitor.Backends.Drives)
        {
            if (wanted != null && id != wanted) continue;
            any = true;
            if (drive.Root is not { } root) { monitor.Write($"{id}: [not inserted]\n"); continue; }
            string access = drive.IsReadOnly ? ", read-only" : "";
            monitor.Write($"{id}{(root.NodeName.Length > 0 ? $" ({root.NodeName})" : "")}: {drive.Description} ({root.FormatName}{access})\n");
            if (monitor.Backends.OwnerOfDrive(id) is { } owner) monitor.Write($"    Attached to:      {owner}\n");
        }
        if (wanted != null && !any) throw new MonitorException($"Device '{wanted}' not found");
    }

    static void Tree(IMonitor monitor, QBus bus, int depth)
    {
        string indent = new(' ', depth * 2);
        monitor.Write($"{indent}bus: {bus.Name}\n{indent}  type {bus.Type}\n");
        foreach (QDevice device in bus.Devices)
        {
            monitor.Write($"{indent}  dev: {device.Driver}, id \"{device.Id}\"\n");
            foreach (OptionPair property in device.Properties) monitor.Write($"{indent}    {property.Name} = {property.Value}\n");
            foreach (QBus child in device.Buses) Tree(monitor, child, depth + 2);
        }
    }

    static void Pci(IMonitor monitor, PciDevice device)
    {
        PciConfig config = device.Config;
        monitor.Write($"  Bus  0, device {device.DevFn >> 3,3}, function {device.DevFn & 7}:\n");
        uint classCode = config.Get32(PciConfig.RevisionId) >> 16;
        monitor.Write($"    Class {classCode:x4}: PCI device {config.Get16(PciConfig.VendorId):x4}:{config.Get16(PciConfig.DeviceId):x4}\n");
        monitor.Write($"      PCI subsystem {config.Get16(PciConfig.SubsystemVendorId):x4}:{config.Get16(PciConfig.SubsystemId):x4}\n");
        if (config[PciConfig.InterruptPin] != 0) monitor.Write($"      IRQ {config[PciConfig.InterruptLine]}, pin {(char)('A' + config[PciConfig.InterruptPin] - 1)}\n");
        for (int i = 0; i < device.BarRegions.Count; i++)
            if (device.BarRegions[i] is { } region)
                monitor.Write(region.Parent != null
                    ? $"      BAR{i}: {region.Name} at 0x{region.Address:x} [0x{region.Address + region.Size - 1:x}].\n"
                    : $"      BAR{i}: {region.Name}, {region.Size} bytes, not mapped.\n");
        monitor.Write($"      id \"{device.Name}\"\n");
    }

    static void Region(IMonitor monitor, MemoryRegion region, ulong at, int depth)
    {
        string kind = region.Kind switch { RegionKind.Ram => "ram", RegionKind.Rom => "rom", RegionKind.Alias => $"alias {region.Target!.Name} @{region.TargetOffset:x16}", _ => "i/o" };
        monitor.Write($"{new string(' ', depth * 2)}{at:x16}-{at + region.Size - 1:x16} (prio {region.Priority}, {kind}): {region.Name}{(region.Enabled ? "" : " [disabled]")}\n");
        foreach (MemoryRegion child in region.Children) Region(monitor, child, at + child.Address, depth + 1);
    }
}

/// <summary>The version that banners and `info version` show.</summary>
public static class ProgramVersion
{
    public static string Text { get; } = typeof(ProgramVersion).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
}
