namespace Qkvm.Core.Devices;

/// <summary>A processor that users have named.</summary>
public interface ICpuDevice : IDevice
{
    /// <summary>Of all that there can be.</summary>
    int Index { get; }
}
