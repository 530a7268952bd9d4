using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>Socket device, served by another process. Virtio 1.2, section 5.10.</summary>
/// <remarks>Nobody serves the queue of events: connections end with their peer, and it would tell of machines that
/// moved.</remarks>
public sealed class VhostUserVsock : VhostUserDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("vhost-user-vsock-pci", "sockets between "
        + "guest and host, by another process", DeviceCategory.Misc, Vsock.ClassCode, [Chardev, Vsock.SeqPacketOption],
        _ => Vsock.Vectors,
        static (name, values, site) =>
        {
            IVhostUser peer = PeerOf(ChardevOf(values), values, site, new(Vsock.Served, "the guest's sockets do not "
                + "answer; start the daemon and the guest anew")
                { Least = Vsock.Served, ConfigSize = Vsock.ConfigLength });
            return Closing(new VhostUserVsock(name, peer, Vsock.FeaturesOf(values, peer.Features), site.Loop(null))
                { Post = site.Board.Post }, site);
        }, isModern: true, isMigratable: false, hasNonTransitional: true);

    readonly IVhostUser _peer;

    VhostUserVsock(string name, IVhostUser peer, ulong features, IoLoop loop)
        : base(name, Vsock.DeviceId, Vsock.ConfigLength, peer, Vsock.QueueSizes, Vsock.Served, loop) =>
            (_peer, KnownFeatures) = (peer, features);

    protected override ulong KnownFeatures { get; }

    public override void ReadConfig(int offset, Span<byte> data) =>
        _peer.Config.AsSpan(offset, data.Length).CopyTo(data);     // guest_cid
}
