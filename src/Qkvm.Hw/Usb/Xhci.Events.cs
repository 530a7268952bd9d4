using System.Buffers.Binary;
using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>Runtime registers, events and interrupts. xHCI 1.2, sections 4.17 and 5.5.</summary>
public sealed partial class Xhci
{
    const uint FirstInterrupter = 0x20, InterrupterSize = 0x20;
    const uint Management = 0x00, Moderation = 0x04, TableSize = 0x08, TableLow = 0x10, TableHigh = 0x14,
        DequeueLow = 0x18, DequeueHigh = 0x1C;
    const int SmallestRing = 16, LargestRing = 4096;               // section 6.5
    const long NanosecondsPerMicroframe = 125_000;

    uint ReadRuntime(uint offset)
    {
        if (offset == 0) return (uint)(_clock.Nanoseconds / NanosecondsPerMicroframe) & 0x3FFF;    // MFINDEX
        if (Find(offset) is not { } interrupter) return 0;
        return (offset % InterrupterSize) switch
        {
            Management => interrupter.Management,
            Moderation => interrupter.Moderation,
            TableSize => interrupter.Segments,
            TableLow => (uint)interrupter.Table,
            TableHigh => (uint)(interrupter.Table >> 32),
            DequeueLow => (uint)interrupter.Dequeue,
            DequeueHigh => (uint)(interrupter.Dequeue >> 32),
            _ => 0,
        };
    }

    void WriteRuntime(uint offset, uint value)
    {
        if (Find(offset) is not { } interrupter) return;
        switch (offset % InterrupterSize)
        {
            case Management:
                interrupter.Management &= ~(value & XhciInterrupter.Pending);
                interrupter.Management &= ~XhciInterrupter.Enable;
                interrupter.Management |= value & XhciInterrupter.Enable;
                UpdateIntX();
                break;
            case Moderation: interrupter.Moderation = value; break;
            case TableSize: interrupter.Segments = value & 0xFFFF; break;
            case TableLow: interrupter.Table = interrupter.Table & ~0xFFFF_FFFFul | value & ~0x3Fu; break;
            case TableHigh:
                interrupter.Table = interrupter.Table & 0xFFFF_FFFF | (ulong)value << 32;
                StartRing(interrupter);
                break;
            case DequeueLow:
                uint busy = (uint)interrupter.Dequeue & ~value & XhciInterrupter.HandlerBusy;
                interrupter.Dequeue = interrupter.Dequeue & ~0xFFFF_FFFFul
                    | value & ~XhciInterrupter.HandlerBusy | busy;
                if ((value & XhciInterrupter.HandlerBusy) != 0 && interrupter.HasEvents) Interrupt(interrupter);
                break;
            case DequeueHigh: interrupter.Dequeue = interrupter.Dequeue & 0xFFFF_FFFF | (ulong)value << 32; break;
        }
    }

    XhciInterrupter? Find(uint offset) => offset >= FirstInterrupter
        && (offset - FirstInterrupter) / InterrupterSize is var index && index < _interrupters.Length
        ? _interrupters[index] : null;

    /// <summary>Reads the event ring's segment table: base and size of the one segment.</summary>
    void StartRing(XhciInterrupter interrupter)
    {
        interrupter.Start(0, 0);
        if (interrupter.Segments == 0) return;
        Span<byte> entry = stackalloc byte[16];
        bool isRead = Dma != null && Dma.Read(interrupter.Table, entry);
        int size = isRead ? BinaryPrimitives.ReadUInt16LittleEndian(entry[8..]) : 0;
        if (size is < SmallestRing or > LargestRing || interrupter.Segments != 1) Die();
        else interrupter.Start(BinaryPrimitives.ReadUInt64LittleEndian(entry) & ~0x3Ful, size);
    }

    /// <summary>Puts an event into a ring and interrupts. Where only one place is left, that tells of the lack
    /// (section 4.9.4), and what comes then is lost.</summary>
    internal void Tell(int number, XhciTrb what, bool blocksInterrupt = false)
    {
        XhciInterrupter interrupter = _interrupters[number < _interrupters.Length ? number : 0];
        int room = interrupter.Room;
        if (room == 0) return;
        if (room == 1) what = new XhciTrb(0, CompletionCode(EventRingFull), HostController << 10);
        Span<byte> raw = stackalloc byte[XhciTrb.Size];
        BinaryPrimitives.WriteUInt64LittleEndian(raw, what.Parameter);
        BinaryPrimitives.WriteUInt32LittleEndian(raw[8..], what.Status);
        BinaryPrimitives.WriteUInt32LittleEndian(raw[12..],
            what.Control & ~Cycle | (interrupter.CycleState ? Cycle : 0));
        if (!Dma.Write(interrupter.At, raw))
        {
            Die();
            return;
        }
        interrupter.Advance();
        if (!blocksInterrupt) Interrupt(interrupter);
    }

    void Interrupt(XhciInterrupter interrupter)
    {
        bool isBusy = (interrupter.Dequeue & XhciInterrupter.HandlerBusy) != 0;
        interrupter.Dequeue |= XhciInterrupter.HandlerBusy;
        interrupter.Management |= XhciInterrupter.Pending;
        _status |= EventInterrupt;
        bool isEnabled = (interrupter.Management & XhciInterrupter.Enable) != 0 && (_command & InterruptEnable) != 0;
        if (isBusy || !isEnabled) return;
        if (MsiX is not { IsEnabled: true } msiX)
        {
            UpdateIntX();
            return;
        }
        interrupter.Management &= ~XhciInterrupter.Pending;        // a message takes it away (section 4.17.5)
        msiX.Notify((ushort)Array.IndexOf(_interrupters, interrupter));
    }

    /// <summary>The first interrupter alone has the pin.</summary>
    void UpdateIntX() => IntX.Set(MsiX is not { IsEnabled: true } && (_command & InterruptEnable) != 0
        && (_interrupters[0].Management & (XhciInterrupter.Pending | XhciInterrupter.Enable))
            == (XhciInterrupter.Pending | XhciInterrupter.Enable));
}
