using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Hw.Scsi;

/// <summary>A logical unit on a <see cref="ScsiBus"/>.</summary>
public sealed class ScsiDevice(string name, ScsiUnit unit, bool isRemovable) : IDevice
{
    public string Name => name;
    public ScsiUnit Unit => unit;

    /// <summary>Its target on the bus.</summary>
    public int Target { get; internal set; }

    /// <summary>The user's name of it, or null.</summary>
    public string? Id { get; internal set; }

    /// <summary>What the adapter keeps for it.</summary>
    public object? AtHost { get; internal set; }              // not migrated: the adapter's

    public void Reset() => unit.Reset();
    public void Exchange(StateStream state) => unit.Exchange(state);

    T? IDevice.Facet<T>() where T : class =>
        isRemovable && unit is T facet ? facet : typeof(T) == typeof(IRemovable) ? null : this as T;
}
