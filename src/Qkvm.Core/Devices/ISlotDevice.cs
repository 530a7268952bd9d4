namespace Qkvm.Core.Devices;

/// <summary>A processor that users have named.</summary>
public interface ICpuDevice : IDevice
{
    /// <summary>Of all that there can be.</summary>
    int Index { get; }
}

/// <summary>Memory beside that of -m.</summary>
public interface IMemoryDevice : IDevice
{
    /// <summary>Of the guest.</summary>
    ulong Address { get; }

    /// <summary>Bytes.</summary>
    ulong Size { get; }
    int Slot { get; }
    int Node { get; }

    /// <summary>The id of the object that has the memory.</summary>
    string Backend { get; }

    /// <summary>It came while the machine ran.</summary>
    bool IsHotPlugged { get; }
}
