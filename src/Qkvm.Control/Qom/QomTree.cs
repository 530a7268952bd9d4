using System.Text.Json;
using System.Text.Json.Nodes;
using Qkvm.Core.Accel;
using Qkvm.Core.Configuration;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Qom;

/// <summary>The machine and its backends as a tree of objects, with QEMU's paths: what users named is below
/// /machine/peripheral and /objects, other devices are below peripheral-anon and unattached.</summary>
static class QomTree
{
    const string Peripheral = "/machine/peripheral", Anonymous = "/machine/peripheral-anon",
        Unattached = "/machine/unattached", Machine = "/machine";

    public static QomNode Root(CommandContext context) => QomNode.Container(() =>
    [
        new("machine", new QomNode($"{context.Machine.Config.MachineType}-machine", null, () =>
        [
            new("peripheral", QomNode.Container(() => Devices(context, Peripheral))),
            new("peripheral-anon", QomNode.Container(() => Devices(context, Anonymous))),
            new("unattached", QomNode.Container(() =>
                [.. context.Machine.Cpus.Where(cpu => !IsNamed(context, cpu))
                    .Select(cpu => KeyValuePair.Create($"cpu[{cpu.Index}]", Cpu(context))),
                .. Devices(context, Unattached)])),
            .. Devices(context, Machine),
        ])),
        new("objects", QomNode.Container(() => context.Backends.ObjectOptions
            .Select(made => KeyValuePair.Create(made.Key,
                Object(context, made.Key, made.Value.Model, made.Value.Given))))),
        new("chardevs", QomNode.Container(() => context.Backends.Chardevs.Keys
            .Select(id => KeyValuePair.Create(id, new QomNode("chardev"))))),
    ]);

    /// <exception cref="CommandException">There is no such object.</exception>
    public static QomNode Find(CommandContext context, string path) => Root(context).Find(path, out bool isAmbiguous)
        ?? throw (isAmbiguous ? new CommandException($"Path '{path}' is ambiguous")
            : CommandException.DeviceNotFound(path));

    /// <summary>Where a device is in the tree.</summary>
    public static string PathOf(CommandContext context, QDevice device)
    {
        string home = HomeOf(device);
        return $"{home}/{Devices(context).First(d => d.Device == device && d.Home == home).Name}";
    }

    static string HomeOf(QDevice device) => device.MachineName != null ? Machine : device.Site == null ? Unattached
        : device.Id == null ? Anonymous : Peripheral;

    /// <summary>Those without an id are numbered.</summary>
    static IEnumerable<(string Home, string Name, QDevice Device)> Devices(CommandContext context)
    {
        int anonymous = 0, unattached = 0;
        foreach ((_, QDevice device) in context.Devices)
        {
            string home = HomeOf(device);
            yield return (home, home == Machine ? device.MachineName! : home == Peripheral ? device.Id!
                : $"device[{(home == Anonymous ? anonymous++ : unattached++)}]", device);
        }
    }

    static IEnumerable<KeyValuePair<string, QomNode>> Devices(CommandContext context, string home) =>
        Devices(context).Where(d => d.Home == home).Select(d => KeyValuePair.Create(d.Name, Device(context, d.Device)));

    static QomNode Device(CommandContext context, QDevice device)
    {
        if (device.Device is ICpuDevice) return Cpu(context, isHotPluggable: true);
        Model? model = context.Host.ModelsOf(ModelKind.Device).FirstOrDefault(m => m.Has(device.Driver));
        return new QomNode(model?.Name ?? device.Driver, () =>
        [
            Constant("realized", "bool", true), Constant("hotpluggable", "bool", device.IsHotPluggable),
            Constant("parent_bus", $"link<{device.Bus?.Kind.Name}>", device.Bus is { Owner: { } owner } bus
                ? $"{PathOf(context, owner)}/{bus.Name}" : ""),
            .. (device.Device?.Facet<ILiveProperties>()?.LiveProperties ?? []).Concat(model == null ? []
                : QomValues.Shown(model.Properties).Select(p => new QomProperty(p.Name, QomValues.TypeOf(p),
                    () => QomValues.Of(p, Given(device, p)), Refuse(model.Name, device.Id, p.Name))))
                .DistinctBy(p => p.Name),
        ], () => model != null && (device.Driver.StartsWith("virtio-", StringComparison.Ordinal)
                || device.Driver.StartsWith("vhost-", StringComparison.Ordinal))
            ? [new("virtio-backend", new QomNode(VirtioBackendOf(context, model.Name)))] : []);
    }

    /// <summary>The same without a transport: "virtio-blk-device", "vhost-user-blk".</summary>
    static string VirtioBackendOf(CommandContext context, string driver)
    {
        string plain = driver.Split("-pci")[0];
        return context.Host.ModelsOf(ModelKind.Device).Any(m => m.Name == plain) ? plain : $"{plain}-device";
    }

    /// <summary>How programs know what uses a drive: its id, or the path of its object.</summary>
    public static string? UserOf(CommandContext context, string drive)
    {
        QDevice? user = context.Devices.Select(d => d.Device)
            .FirstOrDefault(d => d.Properties.Any(p => p.Name == "drive" && p.Value == drive));
        return user == null ? null
            : user.Driver.StartsWith("virtio-blk", StringComparison.Ordinal)
                ? $"{PathOf(context, user)}/virtio-backend" : user.Id ?? PathOf(context, user);
    }

    static string? Given(QDevice device, Property property) =>
        device.Properties.Where(p => p.Name == property.Name).Select(p => p.Value).FirstOrDefault(property.Default);

    /// <summary>What it tells itself is truer than what was said of it.</summary>
    static QomNode Object(CommandContext context, string id, ObjectModel model, Properties given) => new(model.Name,
        () => [.. Told(context.Backends.Objects.GetValueOrDefault(id)).Concat(QomValues.Shown(model.Properties)
            .Where(p => p is { Name: not ("id" or "data"), Kind: not PropertyKind.Texts })
            .Select(p => new QomProperty(p.Name, QomValues.TypeOf(p), () => QomValues.Of(p, given.Text(p.Name)),
                Refuse(model.Name, id, p.Name))))
            .DistinctBy(p => p.Name)]);

    static IEnumerable<QomProperty> Told(object? made) => made switch
    {
        ILiveProperties live => live.LiveProperties,
        MemoryBackend memory => Of(memory),
        _ => [],
    };

    /// <summary>What memory is, beside what was said of it.</summary>
    static QomProperty[] Of(MemoryBackend memory) =>
    [
        Constant("merge", "bool", memory.IsMerged ?? true), Constant("dump", "bool", memory.IsDumped ?? true),
        new("host-nodes", "int", () => new JsonArray([.. memory.HostNodes.Select(node =>
            (JsonNode?)JsonValue.Create(node))])),
    ];

    static bool IsNamed(CommandContext context, IVCpu cpu) =>
        context.Devices.Any(d => d.Device.Device is ICpuDevice named && named.Index == cpu.Index);

    static QomNode Cpu(CommandContext context, bool isHotPluggable = false)
    {
        CpuConfig cpu = context.Machine.Config.Cpu;
        return new QomNode($"{cpu.Model}-x86_64-cpu", () =>
        [
            Constant("realized", "bool", true), Constant("hotplugged", "bool", isHotPluggable),
            Constant("hotpluggable", "bool", true),
            .. CpuProperties(context.Machine.Accelerator.CpuModels.Expand(
                new CpuSetup(cpu.Model, cpu.Features, 0, 1, 1, 1) { Properties = cpu.Properties })),
        ]);
    }

    /// <summary>Of a processor, or of a model of one.</summary>
    public static IEnumerable<QomProperty> CpuProperties(CpuView view) =>
    [
        .. view.Features.Select(feature => Constant(feature.Key, "bool", feature.Value)),
        Constant("vendor", "string", view.Vendor), Constant("model-id", "string", view.ModelId),
        Constant("family", "int", view.Family), Constant("model", "int", view.Model),
        Constant("stepping", "int", view.Stepping), Constant("level", "uint32", view.Level),
        Constant("xlevel", "uint32", view.ExtendedLevel), Constant("phys-bits", "uint32", view.PhysicalBits),
        new("unavailable-features", "strList",
            () => new JsonArray([.. view.Missing.Select(name => (JsonNode?)JsonValue.Create(name))])),
    ];

    static QomProperty Constant(string name, string type, JsonNode? value) => new(name, type, value!.DeepClone);

    static Action<JsonElement> Refuse(string type, string? id, string property) => _ =>
        throw new CommandException($"Attempt to set property '{property}' on {(id == null ? "anonymous device"
            : $"device '{id}'")} (type '{type}') after it was realized");
}
