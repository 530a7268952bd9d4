using System.Buffers.Binary;
using System.Numerics;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>The structures in BAR 4: common configuration, ISR, device configuration, notifications. Virtio 1.2,
/// section 4.1.4; field names are those of struct virtio_pci_common_cfg.</summary>
sealed class VirtioPciModern(VirtioPci function) : IRegisterBank
{
    // The layout of the BAR
    public const uint Common = 0, Isr = 0x1000, DeviceConfig = 0x2000, Notify = 0x3000, StructureSize = 0x1000,
        Size = 0x4000;
    public const uint NotifyMultiplier = 4;

    // struct virtio_pci_common_cfg
    const uint DeviceFeatureSelect = 0x00, DeviceFeature = 0x04, DriverFeatureSelect = 0x08, DriverFeature = 0x0C,
        ConfigMsixVector = 0x10, NumQueues = 0x12, DeviceStatus = 0x14, ConfigGeneration = 0x15, QueueSelect = 0x16,
        QueueSize = 0x18, QueueMsixVector = 0x1A, QueueEnable = 0x1C, QueueNotifyOff = 0x1E,
        QueueDesc = 0x20, QueueDriver = 0x28, QueueDevice = 0x30;

    uint _deviceFeatureSelect, _driverFeatureSelect;
    ushort _queueSelect;
    ulong _driverFeatures;

    VirtioControl Control => function.Control;
    QueueSetup? Queue => _queueSelect < Control.Queues.Count ? Control.Queues[_queueSelect].Setup : null;

    public void Reset()
    {
        (_deviceFeatureSelect, _driverFeatureSelect, _queueSelect, _driverFeatures) = (0, 0, 0, 0);
    }

    public void Exchange(StateStream state)
    {
        state.Field("device-feature-select", ref _deviceFeatureSelect);
        state.Field("driver-feature-select", ref _driverFeatureSelect);
        state.Field("queue-select", ref _queueSelect);
        state.Field("driver-features", ref _driverFeatures);
    }

    public ulong Read(ulong offset, int size)
    {
        uint inside = (uint)offset & (StructureSize - 1);
        return ((uint)offset & ~(StructureSize - 1)) switch
        {
            Common => ReadCommon(inside, size),
            Isr => inside == 0 ? function.TakeIsr() : 0u,
            DeviceConfig => ReadDevice(function.Device, inside, size),
            _ => 0,
        };
    }

    public void Write(ulong offset, int size, ulong value)
    {
        uint inside = (uint)offset & (StructureSize - 1);
        switch ((uint)offset & ~(StructureSize - 1))
        {
            case Common: WriteCommon(inside, (uint)value); break;
            case DeviceConfig: WriteDevice(function.Device, inside, size, value); break;
            case Notify: Control.Kick((int)(inside / NotifyMultiplier), legacy: false); break;
        }
    }

    /// <summary>Bytes of the device's configuration structure; zeros beyond it.</summary>
    public static ulong ReadDevice(VirtioDevice device, uint offset, int size)
    {
        Span<byte> data = stackalloc byte[8];
        data.Clear();
        int count = Math.Min(size, device.ConfigSize - (int)offset);
        if (count > 0) device.ReadConfig((int)offset, data[..count]);
        return BinaryPrimitives.ReadUInt64LittleEndian(data);
    }

    public static void WriteDevice(VirtioDevice device, uint offset, int size, ulong value)
    {
        Span<byte> data = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, value);
        if (offset + size <= device.ConfigSize) device.WriteConfig((int)offset, data[..size]);
    }

    ulong ReadCommon(uint offset, int size)
    {
        // 64-bit fields are read as two halves; single bytes of wider fields take their part.
        uint field = offset & ~3u;
        int shift = (int)(offset & 3) * 8;
        uint dword = field switch
        {
            DeviceFeatureSelect => _deviceFeatureSelect,
            DeviceFeature => Half(Control.OfferedFeatures, _deviceFeatureSelect),
            DriverFeatureSelect => _driverFeatureSelect,
            DriverFeature => Half(_driverFeatures, _driverFeatureSelect),
            ConfigMsixVector => (uint)(function.ConfigVector | Control.Queues.Count << 16),
            DeviceStatus => (uint)(Control.Status | Control.Generation << 8 | _queueSelect << 16),
            QueueSize => (uint)(Queue?.Size ?? 0) | (uint)(Queue?.Vector ?? QueueSetup.NoVector) << 16,
            QueueEnable => (Queue is { Enabled: true } ? 1u : 0) | (uint)(Queue?.Index ?? 0) << 16,
            QueueDesc or QueueDesc + 4 => Half(Queue?.Descriptors ?? 0, (field - QueueDesc) / 4),
            QueueDriver or QueueDriver + 4 => Half(Queue?.DriverArea ?? 0, (field - QueueDriver) / 4),
            QueueDevice or QueueDevice + 4 => Half(Queue?.DeviceArea ?? 0, (field - QueueDevice) / 4),
            _ => 0,
        };
        return dword >> shift;
    }

    void WriteCommon(uint offset, uint value)
    {
        switch (offset)
        {
            case DeviceFeatureSelect: _deviceFeatureSelect = value; return;
            case DriverFeatureSelect: _driverFeatureSelect = value; return;
            case DriverFeature when _driverFeatureSelect < 2:
                int shift = (int)_driverFeatureSelect * 32;
                _driverFeatures = _driverFeatures & ~(0xFFFFFFFFUL << shift) | (ulong)value << shift;
                Control.WriteFeatures(_driverFeatures);
                return;
            case ConfigMsixVector: function.ConfigVector = (ushort)value; return;
            case DeviceStatus:
                function.WriteStatus((byte)value, legacy: false);
                if ((byte)value == 0) Reset();
                return;
            case QueueSelect: _queueSelect = (ushort)value; return;
        }
        if (Queue is not { } queue) return;
        if (offset == QueueMsixVector) function.SetQueueVector(queue, (ushort)value);
        if (queue.Enabled) return;                                 // 4.1.4.3.2: the driver must not touch a live queue
        switch (offset)
        {
            case QueueSize:
                ushort size = (ushort)value;                       // 2.8: packed rings may have any
                if (size > 0 && size <= queue.MaxSize && (Control.IsPacked || BitOperations.IsPow2(size)))
                    queue.Size = size;
                break;
            case QueueEnable: queue.Enabled = (value & 1) != 0; break;
            case QueueDesc or QueueDesc + 4: queue.Descriptors = WithHalf(queue.Descriptors, offset - QueueDesc, value);
            break;
            case QueueDriver or QueueDriver + 4: queue.DriverArea =
                WithHalf(queue.DriverArea, offset - QueueDriver, value); break;
            case QueueDevice or QueueDevice + 4: queue.DeviceArea =
                WithHalf(queue.DeviceArea, offset - QueueDevice, value); break;
        }
    }

    static uint Half(ulong value, uint index) => index switch { 0 => (uint)value, 1 => (uint)(value >> 32), _ => 0 };

    static ulong WithHalf(ulong old, uint offset, uint value) =>
        offset == 0 ? old & ~0xFFFFFFFFUL | value : old & 0xFFFFFFFFUL | (ulong)value << 32;
}
