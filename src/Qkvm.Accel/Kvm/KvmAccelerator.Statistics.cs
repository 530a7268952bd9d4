using Qkvm.Core.Accel;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <remarks>Counts: the kernel's, and how often a vCPU came back to us by reason.</remarks>
public sealed partial class KvmAccelerator : ICounting
{
    KvmStatistics? _statistics;

    public IReadOnlyList<Statistic> Statistics(IVCpu? cpu)
    {
        if (cpu is KvmVCpu kvm) return kvm.Statistics();
        if (cpu == null && HasStatistics) _statistics ??= KvmStatistics.Of(_machine);
        return cpu == null && _statistics != null ? [.. _statistics.Read()] : [];
    }

    bool HasStatistics => Libc.ioctl(_machine, KvmApi.CheckExtension, KvmApi.ExtensionStatistics) > 0;
}
