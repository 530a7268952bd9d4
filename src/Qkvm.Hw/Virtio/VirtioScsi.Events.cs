using System.Buffers.Binary;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Virtio;

/// <summary>What the device tells its driver unasked. Section 5.6.6.3.</summary>
public sealed partial class VirtioScsi
{
    // struct virtio_scsi_event: le32 event, u8 lun[8], le32 reason
    const int EventLun = 4, EventReason = 12, EventLength = 16;
    const uint NoEvent = 0, TransportReset = 1, ParameterChange = 3, EventsMissed = 0x8000_0000;
    const uint Rescan = 1, Removed = 2;

    bool _eventsMissed;

    void ParametersChanged(ScsiDevice device, ScsiSense what) => Send(ParameterChange, device.Target, device.Unit.Lun,
        (uint)(what.Code >> 8 | (what.Code & 0xFF) << 8), ChangeFeature);

    /// <summary>Without a buffer it is missed, and the driver hears of that with the next one.</summary>
    void Send(uint what, int target, int lun, uint reason, ulong feature)
    {
        if ((_features & feature) != feature) return;
        if (_started?[EventQueue] is not { Setup.Enabled: true } queue) return;
        if (!queue.TryPop(out DescriptorChain? chain))
        {
            _eventsMissed = true;
            return;
        }
        if (chain.WritableLength < EventLength)
        {
            queue.Unpop(chain);
            Control.Fail("an event buffer that is too short");
            return;
        }
        Span<byte> message = stackalloc byte[EventLength];
        message.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(message, what | (_eventsMissed ? EventsMissed : 0));
        if (what != NoEvent) VirtioScsiLun.Write(message[EventLun..], target, lun);
        BinaryPrimitives.WriteUInt32LittleEndian(message[EventReason..], reason);
        _eventsMissed = false;
        chain.Writable.Slice(0, EventLength).CopyFrom(message);
        queue.Push(chain, EventLength);
        queue.Signal();
    }

    void TellMissed()
    {
        if (_eventsMissed) Send(NoEvent, 0, 0, 0, 0);
    }
}

/// <summary>How requests and events name a unit. Section 5.6.6.1: 1, the target, then a single level of LUN.</summary>
static class VirtioScsiLun
{
    public static void Write(Span<byte> field, int target, int lun)
    {
        (field[0], field[1]) = (1, (byte)target);
        ScsiLun.Write(field[2..], lun);
    }

    /// <summary>False: it names nothing that could be there.</summary>
    public static bool TryRead(ReadOnlySpan<byte> field, out int target, out int lun)
    {
        target = field[1];
        lun = (field[2] << 8 | field[3]) & 0x3FFF;
        return field[0] == 1 && (field[2] == 0 || field[2] >> 6 == 1);
    }
}
