using Qkvm.Control.Hmp;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

static class DeviceTree
{
    public static readonly Command Command =
        new Command<Nothing, QBus>(null, null, (context, _) => context.Machine.Tree)
    {
        Human = new("info qtree", "", "show device tree", null, (monitor, tree) => Print(monitor, tree, 0)),
    };

    static void Print(IMonitor monitor, QBus bus, int depth)
    {
        string indent = new(' ', depth * 2);
        monitor.Write($"{indent}bus: {bus.Name}\n{indent}  type {bus.Kind.Name}\n");
        foreach (QDevice device in bus.Devices)
        {
            monitor.Write($"{indent}  dev: {device.Driver}, id \"{device.Id}\"\n");
            foreach (OptionPair property in device.Properties)
                monitor.Write($"{indent}    {property.Name} = {property.Value}\n");
            foreach (QBus child in device.Buses) Print(monitor, child, depth + 2);
        }
    }
}
