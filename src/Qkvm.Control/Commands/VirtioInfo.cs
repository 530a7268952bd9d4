using System.Text;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Control.Qom;
using Qkvm.Core.Machine;
using Qkvm.Core.Virtio;

namespace Qkvm.Control.Commands;

/// <param name="Path">The device's.</param>
/// <param name="Name">"virtio-blk".</param>
public sealed record VirtioDeviceInfo(string Path, string Name);

public sealed record VirtioPathArguments(string Path);

/// <summary>What names a status or features, and the bits without a name.</summary>
public sealed record VirtioStatusNames(IReadOnlyList<string> Statuses);

public sealed record VirtioFeatureNames(IReadOnlyList<string> Transports, ulong? UnknownDevFeatures);

public sealed record VirtioStatusInfo(string Name, int DeviceId, VirtioStatusNames Status,
    VirtioFeatureNames GuestFeatures, VirtioFeatureNames HostFeatures, int NumVqs, bool Started, bool Broken,
    bool VmRunning)
{
    /// <summary>As it was asked for, for the human monitor alone.</summary>
    [JsonIgnore] public string Path { get; init; } = "";
}

/// <param name="Queue">Its number.</param>
public sealed record VirtioQueueArguments(string Path, int Queue);

/// <param name="VringDesc">Addresses are the guest's.</param>
public sealed record VirtioQueueInfo(string Name, int QueueIndex, int VringNum, int VringNumDefault, ulong VringDesc,
    ulong VringAvail, ulong VringUsed, uint Inuse, int UsedIdx, int LastAvailIdx, int SignalledUsed,
    bool SignalledUsedValid)
{
    /// <summary>As it was asked for, for the human monitor alone.</summary>
    [JsonIgnore] public string Path { get; init; } = "";
}

/// <summary>x-query-virtio, and info virtio on the human monitor.</summary>
static class VirtioInfo
{
    const int RingAlignment = 4096;

    public static readonly Command List = new Command<Nothing, IReadOnlyList<VirtioDeviceInfo>>("x-query-virtio",
        VirtioJson.Default, static (context, _) => [.. All(context).Select(d => new VirtioDeviceInfo(d.Path,
            VirtioNames.Device(d.Device.DeviceId)))])
    {
        Human = new("info virtio", "", "List all available virtio devices", null, static (monitor, devices) =>
        {
            if (devices.Count == 0) monitor.Write("No VirtIO devices\n");
            foreach (VirtioDeviceInfo device in devices) monitor.Write($"{device.Path} [{device.Name}]\n");
        }),
    };

    public static readonly Command Status = new Command<VirtioPathArguments, VirtioStatusInfo>("x-query-virtio-status",
        VirtioJson.Default, static (context, arguments) =>
            Describe(context, Find(context, arguments.Path)) with { Path = arguments.Path })
    {
        Human = new("info virtio-status", "path", "Display status of a given virtio device",
            static words => new VirtioPathArguments(words.Word()), PrintStatus),
        Completes = [Completions.Paths],
    };

    public static readonly Command QueueStatus = new Command<VirtioQueueArguments, VirtioQueueInfo>(
        "x-query-virtio-queue-status", VirtioJson.Default, static (context, arguments) =>
        {
            VirtioDevice device = Find(context, arguments.Path);
            IReadOnlyList<Virtqueue> queues = device.Control.Queues;
            if (arguments.Queue < 0 || arguments.Queue >= queues.Count)
                throw new CommandException($"Invalid virtqueue number {arguments.Queue}");
            Virtqueue queue = queues[arguments.Queue];
            QueueSetup setup = queue.Setup;
            QueueProgress at = queue.Progress;
            return new VirtioQueueInfo(VirtioNames.Device(device.DeviceId), arguments.Queue, setup.Size, setup.MaxSize,
                setup.Descriptors, setup.DriverArea, setup.DeviceArea, (uint)at.InUse, at.Used, at.Available,
                at.Signalled, at.HasSignalled) { Path = arguments.Path };
        })
    {
        Human = new("info virtio-queue-status", "path queue", "Display status of a given virtio queue",
            static words => new VirtioQueueArguments(words.Word(), (int)(ushort)words.Integer()), PrintQueue),
        Completes = [Completions.Paths],
    };

    static IEnumerable<(string Path, VirtioDevice Device)> All(CommandContext context) => context.Devices
        .Select(d => (Device: d.Device, Virtio: d.Device.Device?.Facet<VirtioDevice>())).Where(d => d.Virtio != null)
        .Reverse().Select(d => ($"{QomTree.PathOf(context, d.Device)}/virtio-backend", d.Virtio!));

    static VirtioDevice Find(CommandContext context, string path) =>
        All(context).FirstOrDefault(d => d.Path == path).Device
            ?? throw new CommandException($"Path {path} is not a VirtIODevice");

    static VirtioStatusInfo Describe(CommandContext context, VirtioDevice device)
    {
        VirtioControl control = device.Control;
        return new VirtioStatusInfo(VirtioNames.Device(device.DeviceId), device.DeviceId,
            new VirtioStatusNames([.. VirtioNames.In(control.Status, VirtioNames.Status)]),
            Names(control.Features), Names(control.OfferedFeatures), control.Queues.Count, control.IsStarted,
            control.IsBroken, context.Machine.State == RunState.Running);

        VirtioFeatureNames Names(ulong bits)
        {
            string[] names = VirtioNames.Features(bits, device.DeviceId, out ulong unknown);
            return new VirtioFeatureNames(names, unknown == 0 ? null : unknown);
        }
    }

    static void PrintStatus(IMonitor monitor, VirtioStatusInfo status)
    {
        var text = new StringBuilder();
        text.Append($"{status.Path}:\n  device_name:             {status.Name} \n");
        text.Append($"  device_id:               {status.DeviceId}\n");
        text.Append("  vhost_started:           false\n");
        text.Append($"  broken:                  {Word(status.Broken)}\n");
        text.Append($"  started:                 {Word(status.Started)}\n");
        text.Append($"  vm_running:              {Word(status.VmRunning)}\n");
        text.Append($"  num_vqs:                 {status.NumVqs}\n");
        text.Append("  endianness:              little\n");
        text.Append($"  status:\n{Lines(status.Status.Statuses)}\n");
        text.Append($"  Guest features:\n{Features(status.GuestFeatures)}\n");
        text.Append($"  Host features:\n{Features(status.HostFeatures)}");
        monitor.Write(text.ToString());
    }

    static string Features(VirtioFeatureNames names) => Lines(names.Transports)
        + (names.UnknownDevFeatures is { } unknown ? $"  unknown-features(0x{unknown:x16})\n" : "");

    static string Lines(IReadOnlyList<string> names) =>
        names.Count == 0 ? "" : $"\t{string.Join(",\n\t", names)}\n";

    static string Word(bool value) => value ? "true" : "false";

    static void PrintQueue(IMonitor monitor, VirtioQueueInfo queue)
    {
        var text = new StringBuilder();
        text.Append($"{queue.Path}:\n  device_name:          {queue.Name}\n");
        text.Append($"  queue_index:          {queue.QueueIndex}\n");
        text.Append($"  inuse:                {queue.Inuse}\n");
        text.Append($"  used_idx:             {queue.UsedIdx}\n");
        text.Append($"  signalled_used:       {queue.SignalledUsed}\n");
        text.Append($"  signalled_used_valid: {Word(queue.SignalledUsedValid)}\n");
        text.Append($"  last_avail_idx:       {queue.LastAvailIdx}\n");
        text.Append("  VRing:\n");
        text.Append($"    num:          {queue.VringNum}\n");
        text.Append($"    num_default:  {queue.VringNumDefault}\n");
        text.Append($"    align:        {RingAlignment}\n");
        text.Append($"    desc:         0x{queue.VringDesc:x16}\n");
        text.Append($"    avail:        0x{queue.VringAvail:x16}\n");
        text.Append($"    used:         0x{queue.VringUsed:x16}\n");
        monitor.Write(text.ToString());
    }
}

[JsonSerializable(typeof(VirtioPathArguments))]
[JsonSerializable(typeof(VirtioQueueArguments))]
[JsonSerializable(typeof(VirtioStatusInfo))]
[JsonSerializable(typeof(VirtioQueueInfo))]
[JsonSerializable(typeof(IReadOnlyList<VirtioDeviceInfo>))]
sealed partial class VirtioJson : JsonSerializerContext;
