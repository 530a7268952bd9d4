using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control;

/// <summary>-object monitor-qmp and monitor-hmp: what -mon makes, under an id, so that it can come and go while the
/// machine runs.</summary>
public static class MonitorObjects
{
    static readonly Property Chardev = Property.Text("chardev", help: "where clients come");

    public static readonly ObjectModel Control = new("monitor-qmp", [Chardev, Property.Bool("pretty", false)],
        static (given, host) => host.OpenMonitor(Config(given) with { Control = true, Pretty = given.Bool("pretty") }))
        { Description = "a QMP monitor", NeedsMachine = true };

    public static readonly ObjectModel Human = new("monitor-hmp", [Chardev, Property.Missing("readline", "on")],
        static (given, host) => host.OpenMonitor(Config(given)))
        { Description = "a human monitor", NeedsMachine = true };

    static MonitorConfig Config(Properties given) => new(given.Required("chardev"), Control: false,
        Owner: given.Owner);
}
