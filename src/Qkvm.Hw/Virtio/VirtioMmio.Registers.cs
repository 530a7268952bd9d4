using System.Numerics;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>The registers.</summary>
public sealed partial class VirtioMmio
{
    // Table 4.1 "MMIO Device Register Layout"
    const ulong MagicValue = 0x000, Version = 0x004, DeviceId = 0x008, VendorId = 0x00C, DeviceFeatures = 0x010,
        DeviceFeaturesSel = 0x014, DriverFeatures = 0x020, DriverFeaturesSel = 0x024, QueueSel = 0x030,
        QueueNumMax = 0x034, QueueNum = 0x038, QueueReady = 0x044, QueueNotify = 0x050, InterruptStatus = 0x060,
        InterruptAck = 0x064, Status = 0x070, QueueDescLow = 0x080, QueueDescHigh = 0x084, QueueDriverLow = 0x090,
        QueueDriverHigh = 0x094, QueueDeviceLow = 0x0A0, QueueDeviceHigh = 0x0A4, ShmLenLow = 0x0B0,
        ShmLenHigh = 0x0B4, ShmBaseLow = 0x0B8, ShmBaseHigh = 0x0BC, ConfigGeneration = 0x0FC, Config = 0x100;

    // Table 4.2 "MMIO Device Legacy Register Layout": what it has instead
    const ulong GuestPageSize = 0x028, QueueAlign = 0x03C, QueuePfn = 0x040;

    const uint Magic = 0x74726976, Qemu = 0x554D4551;              // "virt", "QEMU"
    const uint LegacyVersion = 1, ModernVersion = 2;
    public ulong Read(ulong offset, int size)
    {
        if (Device is not { } device)                              // 4.2.3.1.1: DeviceID 0 ends a driver's probing
            return size == 4 ? offset switch { MagicValue => Magic, Version => VersionNumber, VendorId => Qemu, _ => 0 }
                : 0u;
        if (offset >= Config) return VirtioPciModern.ReadDevice(device, (uint)(offset - Config), size);
        if (size != 4) return 0;                                   // 4.2.2.2: drivers use 32 bits, aligned
        VirtioControl control = device.Control;
        return offset switch
        {
            MagicValue => Magic,
            Version => VersionNumber,
            DeviceId => device.DeviceId,
            VendorId => Qemu,
            DeviceFeatures => Half(control.OfferedFeatures, _deviceFeaturesSel),
            QueueNumMax => (ulong)(Selected(control)?.MaxSize ?? 0),
            QueuePfn when _legacy => (uint)((Selected(control)?.Descriptors ?? 0) >> _guestPageShift),
            QueueReady when !_legacy => Selected(control) is { Enabled: true } ? 1u : 0,
            InterruptStatus => _interruptStatus,
            Status => control.Status,
            ShmLenLow or ShmLenHigh or ShmBaseLow or ShmBaseHigh => uint.MaxValue,
            ConfigGeneration when !_legacy => control.Generation,
            _ => 0,                                                // write-only
        };
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (Device is not { } device) return;
        if (offset >= Config)
        {
            VirtioPciModern.WriteDevice(device, (uint)(offset - Config), size, value);
            return;
        }
        if (size != 4) return;
        switch (offset)
        {
            case DeviceFeaturesSel: _deviceFeaturesSel = (uint)value; break;
            case DriverFeaturesSel: _driverFeaturesSel = (uint)value; break;
            case DriverFeatures: WriteFeatures(device.Control, (uint)value); break;
            case QueueSel: _queueSel = (uint)value; break;
            case QueueNotify: device.Control.Kick((int)Math.Min(value, ushort.MaxValue), _legacy); break;
            case InterruptAck: Acknowledge((byte)value); break;
            case Status: WriteStatus(device.Control, (byte)value); break;
            case GuestPageSize when _legacy: _guestPageShift = value == 0 ? 0 : BitOperations.TrailingZeroCount(value);
                break;
            default: WriteQueue(device.Control, offset, (uint)value); break;
        }
    }

    uint VersionNumber => _legacy ? LegacyVersion : ModernVersion;

    QueueSetup? Selected(VirtioControl control) =>
        _queueSel < control.Queues.Count ? control.Queues[(int)_queueSel].Setup : null;

    void WriteFeatures(VirtioControl control, uint value)
    {
        if (_driverFeaturesSel > 1 || _legacy && _driverFeaturesSel > 0) return;
        int shift = (int)_driverFeaturesSel * 32;
        _driverFeatures = _driverFeatures & ~(0xFFFFFFFFUL << shift) | (ulong)value << shift;
        control.WriteFeatures(_driverFeatures);
    }

    void WriteStatus(VirtioControl control, byte value)
    {
        control.WriteStatus(value, _legacy);
        if (value == 0) FinishReset(control);
    }

    /// <summary>A driver need not wait for the reset that it asked for; GuestPageSize stays (4.2.4).</summary>
    void FinishReset(VirtioControl control)
    {
        if (_lock != null) control.AwaitReset(_lock);
        ClearQueues();
    }

    void WriteQueue(VirtioControl control, ulong offset, uint value)
    {
        if (Selected(control) is not { } queue) return;
        switch (offset)
        {
            case QueueNum when !queue.Enabled && value > 0 && value <= (uint)queue.MaxSize
                && (control.IsPacked || BitOperations.IsPow2(value)): queue.Size = (ushort)value; break;
            case QueueAlign when _legacy && BitOperations.IsPow2(value): _queueAlign = value; break;
            case QueuePfn when _legacy && value == 0:
                control.Reset();
                FinishReset(control);
                break;
            case QueuePfn when _legacy: Place(queue, (ulong)value << _guestPageShift); break;
            case QueueReady when !_legacy: queue.Enabled = (value & 1) != 0; break;
            case QueueDescLow or QueueDescHigh when IsOpen(queue):
                queue.Descriptors = WithHalf(queue.Descriptors, offset & 4, value);
                break;
            case QueueDriverLow or QueueDriverHigh when IsOpen(queue):
                queue.DriverArea = WithHalf(queue.DriverArea, offset & 4, value);
                break;
            case QueueDeviceLow or QueueDeviceHigh when IsOpen(queue):
                queue.DeviceArea = WithHalf(queue.DeviceArea, offset & 4, value);
                break;
        }
    }

    /// <summary>4.2.2.2: the driver must not touch a queue that is ready.</summary>
    bool IsOpen(QueueSetup queue) => !_legacy && !queue.Enabled;

    /// <summary>Section 2.7.2: one contiguous area, the used ring at the next multiple of QueueAlign.</summary>
    void Place(QueueSetup queue, ulong address)
    {
        ulong size = queue.Size;
        queue.Descriptors = address;
        queue.DriverArea = address + 16 * size;
        queue.DeviceArea = queue.DriverArea + 6 + 2 * size + _queueAlign - 1 & ~(ulong)(_queueAlign - 1);
        queue.Enabled = true;
    }

    static uint Half(ulong value, uint index) => index switch { 0 => (uint)value, 1 => (uint)(value >> 32), _ => 0 };

    static ulong WithHalf(ulong old, ulong offset, uint value) =>
        offset == 0 ? old & ~0xFFFFFFFFUL | value : old & 0xFFFFFFFFUL | (ulong)value << 32;
}
