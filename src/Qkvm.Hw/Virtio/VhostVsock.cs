using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Virtio;
using Qkvm.Host;

namespace Qkvm.Hw.Virtio;

/// <summary>Socket device, served by the host's kernel. Virtio 1.2, section 5.10.</summary>
/// <remarks>Nobody serves the queue of events, which would tell of machines that moved.</remarks>
public sealed class VhostVsock : VhostDevice
{
    const string Device = "/dev/vhost-vsock";
    const ulong LastReserved = 2;                                  // VMADDR_CID_HOST

    public static readonly DeviceModel[] Models = VirtioPciModels.Family("vhost-vsock-pci", "sockets between guest and "
        + "host, by the kernel", DeviceCategory.Misc, Vsock.ClassCode,
        [
            Property.Number("guest-cid", 0, help: "the guest's address"),
            Property.Text("vhostfd", help: "an open /dev/vhost-vsock"), Vsock.SeqPacketOption,
        ],
        _ => Vsock.Vectors, FromProperties, isModern: true, isMigratable: false, hasNonTransitional: true);

    readonly VhostKernel _kernel;

    /// <param name="file">Becomes this object's own.</param>
    /// <param name="features">Of the device's own.</param>
    /// <exception cref="HostException">The address is another guest's.</exception>
    public VhostVsock(string name, IVhostFile file, ulong cid, ulong features, IoLoop loop)
        : this(name, new VhostKernel(file, Vsock.Served, file.SetVsockRunning), features, loop)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(ConfigSpace, cid);
        file.SetGuestCid(cid);
    }

    VhostVsock(string name, VhostKernel kernel, ulong features, IoLoop loop)
        : base(name, Vsock.DeviceId, Vsock.ConfigLength, kernel, Vsock.QueueSizes, Vsock.Served, loop) =>
            (_kernel, KnownFeatures) = (kernel, features);

    protected override ulong KnownFeatures { get; }

    public override void Close()
    {
        base.Close();
        _kernel.Dispose();
    }

    static VhostVsock FromProperties(string name, Properties values, DeviceSite site)
    {
        ulong cid = values.Number("guest-cid");
        if (cid <= LastReserved)
            throw values.Error($"guest-cid property must be greater than {LastReserved}; give each guest its own");
        if (cid >= uint.MaxValue) throw values.Error("guest-cid property must be a 32-bit number");
        IVhostFile? file = null;
        try
        {
            file = values.Text("vhostfd") is { } given
                ? VhostFile.Inherit(site.Board.TakeDescriptor(given, values.Owner)) : VhostFile.Open(Device);
            var device = new VhostVsock(name, file, cid, Vsock.FeaturesOf(values, file.Features), site.Loop(null))
                { Post = site.Board.Post };
            site.OnLeave(device.Close);
            return device;
        }
        catch (HostException e)
        {
            file?.Dispose();
            string remedy = e.Errno == Libc.EAddrInUse ? "; another guest has it: give another guest-cid"
                : values.Has("vhostfd") ? $"; vhostfd= must be an open {Device}"
                : File.Exists(Device) ? "" : $": {Device} is not there; on the host run: modprobe vhost_vsock";
            throw values.Error($"vhost-vsock: {e.Message}{remedy}", e);
        }
        catch
        {
            file?.Dispose();
            throw;
        }
    }
}
