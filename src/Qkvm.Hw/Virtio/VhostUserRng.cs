using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>Entropy device, served by another process. Virtio 1.2, section 5.4.</summary>
public sealed class VhostUserRng : VhostUserDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("vhost-user-rng-pci", "random numbers of "
        + "another process", DeviceCategory.Misc, 0x00FF00, [Chardev], _ => 1,
        static (name, values, site) => Closing(new VhostUserRng(name, PeerOf(ChardevOf(values), values, site,
            new(Queues, "the guest gets no more of it until one comes again") { Resumes = true }),
            site.Loop(null)) { Post = site.Board.Post }, site),
        isModern: true, isMigratable: false, bareName: "vhost-user-rng");

    const int Queues = 1, QueueSize = 4;

    VhostUserRng(string name, IVhostUser peer, IoLoop loop) : base(name, 4, 0, peer, [QueueSize], Queues, loop) { }

    protected override ulong KnownFeatures => 0;
}
