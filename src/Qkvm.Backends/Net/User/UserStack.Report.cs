using Qkvm.Core.Net;

namespace Qkvm.Backends.Net.User;

/// <summary>What monitors show.</summary>
sealed partial class UserStack
{
    /// <summary>From any thread.</summary>
    public void Describe(List<UserConnection> all)
    {
        lock (_lock)
        {
            all.AddRange(Tcp.All.Select(c => c.Describe()));
            all.AddRange(Udp.All.Select(f => f.Describe()));
            all.AddRange(Icmp.Describe());
        }
    }
}
