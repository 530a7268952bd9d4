using Qkvm.Core.Memory;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>The legacy registers in BAR 0. Virtio 1.2, section 4.1.4.10, "Legacy Interfaces: A Note on PCI Device
/// Layout".</summary>
sealed class VirtioPciLegacy(VirtioPci function) : IRegisterBank
{
    const ulong DeviceFeatures = 0, DriverFeatures = 4, QueueAddress = 8, QueueSize = 12, QueueSelect = 14,
        QueueNotify = 16, DeviceStatus = 18, IsrStatus = 19, ConfigVector = 20, QueueVector = 22;
    // the device's structure follows here, or after the vectors
    const uint Header = 20;
    const int PageShift = 12;

    /// <summary>Bytes of the registers with both MSI-X vectors.</summary>
    public const int MaxHeader = 24;

    /// <summary>Queue Notify with a queue's number rings.</summary>
    public static (ulong Offset, ulong? Value) Doorbell(int queue) => (QueueNotify, (ulong)queue);

    VirtioControl Control => function.Control;
    ref ushort Select => ref function.LegacyQueueSelect;
    QueueSetup? Queue => Select < Control.Queues.Count ? Control.Queues[Select].Setup : null;
    bool HasVectors => function.MsiX is { IsEnabled: true };
    uint ConfigStart => HasVectors ? MaxHeader : Header;

    public ulong Read(ulong offset, int size)
    {
        if (offset >= ConfigStart) return VirtioPciModern.ReadDevice(function.Device, (uint)offset - ConfigStart, size);
        return offset switch
        {
            DeviceFeatures => (uint)Control.OfferedFeatures,
            DriverFeatures => (uint)Control.Features,
            QueueAddress => Queue is { Enabled: true } queue ? queue.Descriptors >> PageShift : 0,
            QueueSize => (ulong)(Queue?.MaxSize ?? 0),
            QueueSelect => Select,
            DeviceStatus => Control.Status,
            IsrStatus => function.TakeIsr(),
            ConfigVector => function.ConfigVector,
            QueueVector => Queue?.Vector ?? QueueSetup.NoVector,
            _ => ulong.MaxValue,
        };
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset >= ConfigStart)
        {
            VirtioPciModern.WriteDevice(function.Device, (uint)offset - ConfigStart, size, value);
            return;
        }
        switch (offset)
        {
            case DriverFeatures: Control.WriteFeatures((uint)value); break;
            case QueueAddress when (uint)value == 0: function.ResetFunction(legacy: true); break;
            case QueueAddress: if (Queue is { } placed) Place(placed, (ulong)(uint)value << PageShift); break;
            case QueueSelect: Select = (ushort)value; break;
            case QueueNotify: Control.Kick((ushort)value, legacy: true); break;
            case DeviceStatus: function.WriteStatus((byte)value, legacy: true); break;
            case ConfigVector: function.ConfigVector = (ushort)value; break;
            case QueueVector: if (Queue is { } routed) function.SetQueueVector(routed, (ushort)value); break;
        }
    }

    /// <summary>Section 2.7.2: one contiguous area, the used ring on the next page boundary.</summary>
    static void Place(QueueSetup queue, ulong address)
    {
        ulong size = (ulong)queue.MaxSize;
        queue.Size = (ushort)size;
        queue.Descriptors = address;
        queue.DriverArea = address + 16 * size;
        queue.DeviceArea = (queue.DriverArea + 6 + 2 * size + 0xFFF) & ~0xFFFUL;
        queue.Enabled = true;
    }
}
