using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>Which threads move the data of a device's queues: iothread= for all of them, or iothread-vq-mapping=, a
/// list of threads that each may name its queues.</summary>
static class QueueLoops
{
    const string One = "iothread", Mapping = "iothread-vq-mapping";

    public static readonly Property[] Properties =
    [
        Property.Object(One, "an -object iothread that moves the data"),
        Property.Tree(Mapping, "a list: iothread=ID of an -object, vqs=[its queues] for each or for none"),
    ];

    /// <returns>Queue i is on loop i modulo their number.</returns>
    public static IoLoop[] Of(Properties values, DeviceSite site, int queues)
    {
        string? one = values.Text(One);
        if (values.Tree(Mapping) is not { } list) return [site.Loop(one)];
        if (one != null) throw values.Error($"{One} and {Mapping} properties cannot be set at the same time");

        var threads = new List<string>();
        var loops = new List<IoLoop>();
        var mapped = new IoLoop?[queues];
        int withQueues = 0;
        foreach (string item in list.Names)
        {
            Options entry = list.Nested(item) ?? throw values.Error($"{Mapping}.{item} is no object");
            string id = entry.Required(One);
            if (threads.Contains(id)) throw values.Error($"duplicate IOThread name \"{id}\" in {Mapping}");
            threads.Add(id);
            IoLoop loop = site.Loop(id);
            loops.Add(loop);
            if (entry.Has("vqs")) withQueues++;
            foreach (string text in entry.List("vqs")) Map(text, id, loop);
            entry.Close();
        }
        if (loops.Count == 0) throw values.Error($"{Mapping} is empty; give it an iothread");
        if (withQueues == 0) return [.. loops];
        if (withQueues < loops.Count)
            throw values.Error($"either all items in {Mapping} must have vqs or none of them must have it");
        int missing = Array.IndexOf(mapped, null);
        if (missing >= 0) throw values.Error($"missing vq {missing} IOThread assignment in {Mapping}");
        return [.. mapped.OfType<IoLoop>()];

        void Map(string text, string id, IoLoop loop)
        {
            if (!int.TryParse(text, out int index) || index < 0 || index >= queues)
                throw values.Error($"vq index {text} for IOThread \"{id}\" must be less than num_queues {queues} in "
                    + Mapping);
            if (mapped[index] != null)
                throw values.Error($"cannot assign vq {index} to IOThread \"{id}\" because it is already assigned");
            mapped[index] = loop;
        }
    }
}
