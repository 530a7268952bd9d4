namespace Qkvm.Host;

/// <summary>The host refused something: what was tried and the reason of the operating system.</summary>
public sealed class HostException(string what, int errno) : Exception($"{what}: {Libc.Message(errno)}")
{
    public int Errno { get; } = errno;
}
