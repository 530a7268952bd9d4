using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Qom;

/// <param name="Parent">The type that it is a kind of.</param>
/// <param name="Properties">What its objects have.</param>
sealed record QomType(string Name, string Parent, IEnumerable<Property> Properties, bool IsDevice = false);

/// <summary>All types of objects: what the catalogues have, and above these what they are kinds of.</summary>
static class QomTypes
{
    /// <summary>Types without objects of their own, and their parents.</summary>
    static readonly Dictionary<string, string> s_abstract = new()
    {
        ["device"] = "object", ["pci-device"] = "device", ["isa-device"] = "device", ["ide-device"] = "device",
        ["cpu"] = "device", ["x86_64-cpu"] = "cpu", ["machine"] = "object", ["x86-machine"] = "machine",
        [Pc] = "x86-machine", ["memory-backend"] = "object", ["rng-backend"] = "object",
        ["chardev"] = "object", ["accel"] = "object",
    };

    public static IEnumerable<QomType> All(CommandContext context)
    {
        IBackendHost host = context.Host;
        return
        [
            .. Devices(host).Where(model => model.Category != DeviceCategory.Cpu).Select(model =>
                new QomType(model.Name, ParentOf(model), model.Properties, IsDevice: true)),
            .. Chips(host),
            .. host.ModelsOf(ModelKind.Machine).Select(model => new QomType($"{model.Name}-machine",
                IsPc(context, model) ? Pc : "machine", model.Properties)),
            .. host.ModelsOf(ModelKind.Object).Select(model => new QomType(model.Name, KindOf(model.Name),
                model.Properties.Where(p => p.Name != "id"))),
            .. host.ModelsOf(ModelKind.Chardev).Select(model => new QomType($"chardev-{model.Name}", "chardev", [])),
            .. host.ModelsOf(ModelKind.Accelerator).Select(model =>
                new QomType($"{model.Name}-accel", "accel", model.Properties)),
            .. context.Machine.Accelerator.CpuModels.Definitions.Select(cpu =>
                new QomType(cpu.Typename, Cpu, CpuProperties.Concat(Devices(host)
                    .FirstOrDefault(model => model.Name == cpu.Typename)?.Properties ?? []), IsDevice: true)),
        ];
    }

    static IEnumerable<DeviceModel> Devices(IBackendHost host) => host.ModelsOf(ModelKind.Device).Cast<DeviceModel>();

    /// <summary>What machines bring themselves and -global can set: libvirt looks for disable_s3= there.</summary>
    static IEnumerable<QomType> Chips(IBackendHost host) => host.ChipGlobals.Select(global => global.Split('.', 2))
        .GroupBy(global => global[0], global => Property.Text(global[1]))
        .Where(chip => !Devices(host).Any(model => model.Name == chip.Key))
        .Select(chip => new QomType(chip.Key, "device", [.. chip], IsDevice: true));

    /// <summary>The type of that name; null: there is none.</summary>
    public static QomType? Find(CommandContext context, string name) =>
        All(context).FirstOrDefault(type => type.Name == name)
            ?? (s_abstract.TryGetValue(name, out string? parent) ? new QomType(name, parent, name switch
            {
                Cpu => CpuProperties,
                Pc => context.Host.ModelsOf(ModelKind.Machine).FirstOrDefault(model => IsPc(context, model))
                    ?.Properties ?? [],
                _ => [],
            }) : null);

    public static IEnumerable<(string Name, string Parent)> Abstract => s_abstract.Select(t => (t.Key, t.Value));

    /// <summary>Whether a type is of another's kind, however far up.</summary>
    public static bool Is(QomType type, string kind)
    {
        for (string? name = type.Name, parent = type.Parent; name != null;
            (name, parent) = (parent, parent == null ? null : s_abstract.GetValueOrDefault(parent)))
            if (name == kind) return true;
        return kind == "object";
    }

    const string Cpu = "x86_64-cpu", Pc = "generic-pc-machine";

    /// <summary>Machines without processors are none.</summary>
    static bool IsPc(CommandContext context, Model machine) =>
        context.MachineTypes.Value.FirstOrDefault(type => type.Name == machine.Name)?.DefaultCpuType != null;

    /// <summary>What each processor can be asked for beside its features.</summary>
    static IEnumerable<Property> CpuProperties =>
    [
        Property.Text("vendor"), Property.Text("model-id"), Property.Number("family", 0, max: uint.MaxValue),
        Property.Number("model", 0, max: uint.MaxValue), Property.Number("stepping", 0, max: uint.MaxValue),
        Property.Number("level", 0, max: uint.MaxValue), Property.Number("xlevel", 0, max: uint.MaxValue),
        Property.Number("phys-bits", 0, max: uint.MaxValue), Property.Texts("unavailable-features"),
    ];

    static string ParentOf(DeviceModel model) => model.Bus == BusKind.None ? "device"
        : $"{model.Bus.Name.ToLowerInvariant()}-device";

    static string KindOf(string objectType) => objectType.StartsWith("memory-backend-", StringComparison.Ordinal)
        ? "memory-backend" : objectType.StartsWith("rng-", StringComparison.Ordinal) ? "rng-backend" : "object";
}
