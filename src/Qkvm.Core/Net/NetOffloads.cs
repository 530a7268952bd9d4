namespace Qkvm.Core.Net;

/// <summary>What one side may leave undone in a frame, because the other side does it or does not need it. Virtio 1.2,
/// section 5.1.3; TUNSETOFFLOAD of the kernel's tap driver.</summary>
[Flags]
public enum NetOffloads
{
    None = 0,

    /// <summary>Checksums of TCP and UDP.</summary>
    Checksum = 1,

    /// <summary>TCP over IPv4 and IPv6 that is cut into segments later.</summary>
    Tso4 = 2, Tso6 = 4,

    /// <summary>Such TCP with congestion bits (ECN).</summary>
    TsoEcn = 8,

    /// <summary>UDP that is cut into datagrams later.</summary>
    Uso = 16,
}
