using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Header, extensions and the name of the backing file: what the first cluster holds. Spec: QEMU
/// docs/interop/qcow2.txt, "Header".</summary>
static class Qcow2FirstCluster
{
    const int EndLength = 8;                                       // of the extension that ends the others

    /// <summary>The cluster's bytes; the header's fields for the backing file are set.</summary>
    /// <param name="backing">Null for none.</param>
    /// <exception cref="ConfigurationException">There is no room for the name.</exception>
    public static byte[] Make(Qcow2Header header, Qcow2Extensions extensions, string? backing)
    {
        byte[] name = Encoding.UTF8.GetBytes(backing ?? "");
        List<Qcow2Extension> all = [.. extensions.All];
        if (header.ClusterSize - header.HeaderLength - EndLength - name.Length < all.Sum(e => e.PaddedLength))
            all.RemoveAll(e => e.Type == Qcow2Extension.FeatureNames); // they are a convenience
        int nameAt = header.HeaderLength + all.Sum(e => e.PaddedLength) + EndLength;
        if (name.Length > Math.Min(Qcow2Header.MaxBackingName, header.ClusterSize - nameAt))
            throw new ConfigurationException("Backing file name too long");
        (header.BackingOffset, header.BackingLength) = name.Length == 0 ? (0, 0) : (nameAt, name.Length);
        var cluster = new byte[header.ClusterSize];
        header.WriteTo(cluster);
        int at = header.HeaderLength;
        foreach (Qcow2Extension extension in all)
        {
            extension.WriteTo(cluster.AsSpan(at));
            at += extension.PaddedLength;
        }
        name.CopyTo(cluster, nameAt);
        return cluster;
    }
}
