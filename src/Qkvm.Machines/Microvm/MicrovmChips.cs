using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Hw.Timer;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.Microvm;

/// <summary>The timekeepers of the PC/AT, as far as users want them.</summary>
sealed class MicrovmChips
{
    const ulong PitPort = 0x40, RtcPort = 0x70;
    const int TimerIrq = 0, RtcIrq = 8;

    readonly Mc146818? _rtc;

    public MicrovmChips(Board board, QBus isa, bool hasPit, bool hasRtc)
    {
        if (hasPit)
        {
            I8254 pit = board.Own("isa-pit", isa, new I8254(board.Clock, board.Irq(TimerIrq),
                board.Interrupts.TimerTicks));
            board.Ports.Map(PitPort, MemoryRegion.Io("pit", 4, pit, AccessSizes.Bytes));
            IsaChips.MapSpeaker(board, isa, pit);
        }
        if (!hasRtc) return;
        _rtc = board.Own("mc146818rtc", isa, new Mc146818(board.Clock, board.Irq(RtcIrq),
            IsaChips.StartDate(board.Config.Rtc)));
        board.Ports.Map(RtcPort, MemoryRegion.Io("rtc", 2, _rtc, AccessSizes.Bytes));
        board.Describe(_rtc, "RTC", () => Aml.PlugAndPlay("PNP0B00", null,
            AmlResource.Io((ushort)RtcPort, 8), AmlResource.Irq(RtcIrq)));
    }

    /// <summary>Fills CMOS RAM.</summary>
    public void DescribeInCmos(Board board)
    {
        if (_rtc != null) PcCmos.Describe(_rtc, board.Layout, board.Config.Topology.Cpus);
    }
}
