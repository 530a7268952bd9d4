using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Files;
using Qkvm.Core.Machine;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.NineP;

namespace Qkvm.Hw.Virtio;

/// <summary>A shared folder, served by 9P. Virtio 1.2, section 5.21 names the device (9); its configuration and its
/// one queue of messages are as Linux's driver has them.</summary>
/// <remarks>A session of a client is not part of a machine's state: a state with one is neither saved nor
/// loaded, as QEMU refuses to migrate while the folder is mounted.</remarks>
public sealed class Virtio9p : VirtioDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("virtio-9p-pci", "a folder of the host, by 9P",
        DeviceCategory.Storage, 0x000200,
        [
            Property.Text("fsdev", help: "the folder: -fsdev local,id=…"),
            Property.Text("mount_tag", help: "what the guest mounts it by"),
        ],
        _ => 2, FromProperties);

    const ulong MountTag = 1;                                      // VIRTIO_9P_MOUNT_TAG
    const int LongestTag = 31, TagOffset = sizeof(ushort);         // struct virtio_9p_config: tag_len, tag
    const int Messages = 128;                                      // at once

    static readonly int[] Sizes = [Messages];

    readonly Virtio9pQueue _queue;

    /// <param name="loop">Where messages are answered.</param>
    /// <param name="post">Runs work on the main loop under the machine lock.</param>
    public Virtio9p(string name, SharedFolder folder, string tag, IoLoop loop, Action<Action> post,
        Func<bool>? isGuestAsleep = null) : base(name, 9, TagOffset + Encoding.UTF8.GetByteCount(tag))
    {
        Post = post;
        if (isGuestAsleep != null) IsGuestAsleep = isGuestAsleep;
        BinaryPrimitives.WriteUInt16LittleEndian(ConfigSpace, (ushort)(ConfigSize - TagOffset));
        Encoding.UTF8.GetBytes(tag, ConfigSpace.AsSpan(TagOffset));
        Server = new NinePServer(folder);
        _queue = new Virtio9pQueue(this, loop);
    }

    internal NinePServer Server { get; }

    public override IReadOnlyList<int> QueueSizes => Sizes;
    public override ulong OfferedFeatures => MountTag;

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features) { }
    public override void Stop() { }
    public override void Kick(Virtqueue queue) { }                 // the queue is on its loop
    public override IMovedQueue QueueOf(int index) => _queue;

    public override void Reset() => Server.Reset();

    public override void Exchange(StateStream state)
    {
        if (Server.Fids > 0) throw new InvalidStateException($"{Name}: the folder is mounted in the guest");
    }

    static Virtio9p FromProperties(string name, Properties values, DeviceSite site)
    {
        string id = values.Text("fsdev") ?? throw values.Error("9pfs device couldn't find fsdev with the id = NULL; "
            + "give -fsdev local,id=f,path=FOLDER,security_model=… and fsdev=f");
        SharedFolder folder = site.Board.FindFolder(id, values.Owner);
        string tag = values.Text("mount_tag")
            ?? throw values.Error($"fsdev with id {id} needs mount_tag arguments; give mount_tag=TAG");
        int length = Encoding.UTF8.GetByteCount(tag);
        if (length is 0 or > LongestTag)
            throw values.Error($"mount tag '{tag}' ({length} bytes) is longer than maximum ({LongestTag} bytes), "
                + "or empty");
        // a thread of its own: a folder may be on a slow disk
        var device = new Virtio9p(name, folder, tag, site.OwnLoop("9p"), site.Board.Post, site.Board.IsGuestAsleep);
        site.OnLeave(device.Server.Leave);
        return device;
    }
}
