using Qkvm.Core.Block;

namespace Qkvm.Backends.Net.Sockets;

/// <summary>How frames are on sockets, as QEMU has them.</summary>
static class FrameCopy
{
    /// <summary>Bytes: QEMU takes no longer ones.</summary>
    public const int Largest = 4096 + 65536;

    /// <summary>An Ethernet header; what is shorter is no frame.</summary>
    public const int Header = 14;

    /// <summary>Of IEEE 802.3 without FCS: shorter frames are filled up with zeros.</summary>
    const int Shortest = 60;

    public static int LengthOf(in ScatterList frame) => (int)Math.Max(frame.Length, Shortest);

    /// <param name="target">As long as <see cref="LengthOf"/> says.</param>
    public static void Copy(in ScatterList frame, Span<byte> target)
    {
        frame.CopyTo(target);
        target[(int)frame.Length..].Clear();
    }
}
