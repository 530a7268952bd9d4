using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>A device in another process, which is reached by a chardev: vhost-user.</summary>
public abstract class VhostUserDevice(string name, ushort deviceId, int configSize, IVhostUser peer, int[] sizes,
    int served, IoLoop loop) : VhostDevice(name, deviceId, configSize, peer, sizes, served, loop)
{
    internal const int MostQueues = 1024, LargestQueue = 1024;

    internal static Property Chardev => Property.Chardev(help: "a unix socket, by which the peer is reached");

    public override void Close()
    {
        base.Close();
        peer.Dispose();
    }

    /// <param name="missing">What QEMU says where it is.</param>
    internal static string ChardevOf(Properties values, string missing = "missing chardev") =>
        values.Text("chardev") ?? throw values.Error($"{missing}; give -chardev socket,id=c,path=… and chardev=c");

    /// <summary>The peer at the other end of a chardev, which the device closes by itself.</summary>
    internal static IVhostUser PeerOf(string id, Properties values, DeviceSite site, VhostUserNeeds needs)
    {
        if (!VhostRegion.IsShared(site.Board.Memory.View))
            throw values.Error("the guest's memory is not shared, and the peer of vhost-user must be able to map it: "
                + VhostRegion.Remedy);
        return site.Chardev(id).Stream is IVhostUserSocket socket ? socket.Serve(needs with { Owner = values.Owner })
            : throw values.Error($"chardev \"{id}\" is not a unix socket; give -chardev socket,id={id},path=…");
    }

    /// <summary>The device, once it is made, ends with its site.</summary>
    internal static T Closing<T>(T device, DeviceSite site) where T : VhostDevice
    {
        site.OnLeave(device.Close);
        return device;
    }
}
