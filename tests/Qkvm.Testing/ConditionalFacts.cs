using Qkvm.Host;
using Xunit;

namespace Qkvm.Testing;

/// <summary>A test that needs something of the host: where it is missing the test is skipped and says why.</summary>
public abstract class ConditionalFactAttribute : FactAttribute
{
    protected ConditionalFactAttribute(string? whyNot)
    {
        if (whyNot != null) Skip = whyNot;
    }
}

/// <summary>As <see cref="ConditionalFactAttribute"/>, for several cases.</summary>
public abstract class ConditionalTheoryAttribute : TheoryAttribute
{
    protected ConditionalTheoryAttribute(string? whyNot)
    {
        if (whyNot != null) Skip = whyNot;
    }
}

/// <summary>Needs io_uring, which some kernels lack and some forbid.</summary>
public sealed class RingFactAttribute() : ConditionalFactAttribute(WhyNot())
{
    static string? WhyNot()
    {
        using IoRing? ring = IoRing.Create();
        return ring == null ? "needs io_uring" : null;
    }
}

/// <summary>Needs root and /dev/net/tun, to make tap interfaces in a network namespace of its own.</summary>
public sealed class TapFactAttribute() : ConditionalFactAttribute(WhyNot())
{
    internal static string? WhyNot()
    {
        if (!Environment.IsPrivilegedProcess) return "needs root, to create a network namespace";
        if (!File.Exists("/dev/net/tun")) return "needs /dev/net/tun";
        return File.Exists("/usr/sbin/ip") || File.Exists("/sbin/ip") ? null : "needs the ip command (iproute2)";
    }
}

/// <summary>As <see cref="TapFactAttribute"/>, with data.</summary>
public sealed class TapTheoryAttribute : TheoryAttribute
{
    public TapTheoryAttribute()
    {
        if (TapFactAttribute.WhyNot() is { } whyNot) Skip = whyNot;
    }
}

/// <summary>Needs root, for example to listen on a port below 1024.</summary>
public sealed class RootFactAttribute() : ConditionalFactAttribute(Environment.IsPrivilegedProcess ? null
    : "needs root");
