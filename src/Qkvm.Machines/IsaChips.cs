using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Hw.Input;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Timer;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines;

/// <summary>The chips of the IBM PC/AT and their places, as every PC since has them: timer, speaker, clock, keyboard
/// controller, coprocessor errors, DMA; and the HPET, which can take the timers' places.</summary>
/// <remarks>Deviations: the keyboard controller and port 92h drive one A20 gate, and who writes last decides; the
/// 82371AB opens it while either does, and firmware leaves port 92h open.</remarks>
sealed class IsaChips
{
    // Ports
    const ulong PitPort = 0x40, SystemControlPortB = 0x61, RtcPort = 0x70, KeyboardDataPort = 0x60,
        KeyboardCommandPort = 0x64, SystemControlPortA = 0x92, DmaMasterPort = 0x00, DmaPagePort = 0x80,
        DmaSlavePort = 0xC0, CoprocessorPort = 0xF0;

    // Interrupts
    const int TimerIrq = 0, KeyboardIrq = 1, RtcIrq = 8, MouseIrq = 12, CoprocessorIrq = 13;

    readonly BootConfig _boot;

    /// <param name="isa">The bus that they sit on.</param>
    /// <param name="hpetRoutes">GSIs that the HPET's timers reach, a bit each; null for no HPET.</param>
    /// <param name="hasFloppies">There is a controller of diskettes.</param>
    public IsaChips(Board board, QBus isa, uint? hpetRoutes, bool hasFloppies = false)
    {
        _boot = board.Config.Boot;
        AddressSpace ports = board.Ports;
        IrqLine pitOut = board.Irq(TimerIrq), rtcOut = board.Irq(RtcIrq);
        if (hpetRoutes is { } routes)
        {
            Hpet hpet = board.Own("hpet", board.Tree, new Hpet(board.Clock, board.Irq, routes,
                board.Interrupts.TimerTicks));
            board.Memory.Map(AcpiTables.HpetAddress, MemoryRegion.Io("hpet", Hpet.RegionSize, hpet, Hpet.Sizes), 1);
            board.Describe(hpet, "HPET", () => Aml.PlugAndPlay("PNP0103", 0,
                AmlResource.Memory32((uint)AcpiTables.HpetAddress, (uint)Hpet.RegionSize, writable: false)));
            pitOut = new IrqLine("pit", hpet.SetPit);
            rtcOut = new IrqLine("rtc", hpet.SetRtc);
        }
        I8254 pit = board.Own("isa-pit", isa, new I8254(board.Clock, pitOut, board.Interrupts.TimerTicks));
        ports.Map(PitPort, MemoryRegion.Io("pit", 4, pit, AccessSizes.Bytes));
        MapSpeaker(board, isa, pit);
        Rtc = board.Own("mc146818rtc", isa, new Mc146818(board.Clock, rtcOut, StartDate(board.Config.Rtc)));
        ports.Map(RtcPort, MemoryRegion.Io("rtc", 2, Rtc, AccessSizes.Bytes));

        board.Describe(Rtc, "RTC", () => Aml.PlugAndPlay("PNP0B00", null,
            AmlResource.Io((ushort)RtcPort, 8), AmlResource.Irq(RtcIrq)));

        I8042 keyboard = board.Own("i8042", isa, new I8042(board.Irq(KeyboardIrq), board.Irq(MouseIrq),
            board.GateA20, () => board.RequestReset(), board.Input));
        ports.Map(KeyboardDataPort, MemoryRegion.Io("i8042-data", 1, keyboard.Data, AccessSizes.ByteOnly));
        ports.Map(KeyboardCommandPort, MemoryRegion.Io("i8042-cmd", 1, keyboard.Command, AccessSizes.ByteOnly));
        board.Describe(keyboard, "KBD", () => Aml.PlugAndPlay("PNP0303", null,
            AmlResource.Io((ushort)KeyboardDataPort, 1), AmlResource.Io((ushort)KeyboardCommandPort, 1),
            AmlResource.Irq(KeyboardIrq)));
        board.Describe(keyboard, "MOU", () => Aml.PlugAndPlay("PNP0F13", null, AmlResource.Irq(MouseIrq)));

        Port92 port92 = board.Own("port92", isa, new Port92(board.GateA20, () => board.RequestReset()));
        ports.Map(SystemControlPortA, MemoryRegion.Io("port92", 1, port92, AccessSizes.ByteOnly));
        Coprocessor = board.Own("coprocessor", isa, new CoprocessorErrors(board.Irq(CoprocessorIrq), board.Lock));
        ports.Map(CoprocessorPort, MemoryRegion.Io("coprocessor", 1, Coprocessor, AccessSizes.ByteOnly));
        I8237Pair dma = board.Own("i8257", isa, new I8237Pair(new Dma(board.Memory)));
        board.IsaDma = dma;
        ports.Map(DmaMasterPort, MemoryRegion.Io("dma", 16, dma.Master, AccessSizes.Bytes));
        ports.Map(DmaSlavePort, MemoryRegion.Io("dma", 32, dma.Slave, AccessSizes.Bytes));
        ports.Map(DmaPagePort, MemoryRegion.Io("dma-page", 16, dma.Pages, AccessSizes.Bytes));
        if (hasFloppies) MakeFloppies(board, isa, dma);
        WakeBy(board);
    }

    static void MakeFloppies(Board board, QBus isa, I8237Pair dma)
    {
        var controller = new I82078(board.Irq(I82078.DefaultIrq), dma, I82078.DefaultDma);
        controller.Map((at, region) => board.Ports.Map(at, region));
        board.Own(I82078.Model.Name, isa, controller, controller.NewBus("floppy-bus.0"));
        board.Describe(controller, "FDC0", () => I82078.Describe());
    }

    /// <summary>Port 61h, whose speaker plays where -machine pcspk-audiodev= or the speaker's own option
    /// says.</summary>
    public static void MapSpeaker(Board board, QBus isa, I8254 pit)
    {
        NamedOption? audio = new ChipGlobals(board.Config, SystemControlPort.Driver).Text(Audiodev)
            ?? board.Config.SpeakerAudio;
        SystemControlPort control = board.Own(SystemControlPort.Driver, isa, new SystemControlPort(pit, board.Clock,
            audio == null ? null : board.FindAudio(audio.Value, audio.Owner)));
        board.Ports.Map(SystemControlPortB, MemoryRegion.Io("pcspk", 1, control, AccessSizes.ByteOnly));
    }

    const string Audiodev = "audiodev";

    /// <summary>What -global can say of them.</summary>
    public static string[] Globals => [$"{SystemControlPort.Driver}.{Audiodev}"];

    /// <summary>Keys, buttons of the mouse and the clock's alarm wake a guest that sleeps.</summary>
    void WakeBy(Board board)
    {
        board.Input.Used += () => board.RequestWakeUp(WakeCause.Other);
        Rtc.Alarm += () => board.RequestWakeUp(WakeCause.RtcAlarm);
    }

    public Mc146818 Rtc { get; }
    public CoprocessorErrors Coprocessor { get; }

    /// <summary>Fills CMOS RAM, once the devices are made.</summary>
    public void DescribeInCmos(Board board)
    {
        PcCmos.Describe(Rtc, board.Layout, board.Cpus.Count);
        PcCmos.SetBootOrder(Rtc, _boot.Once ?? _boot.Order);
        PcCmos.DescribeDisks(Rtc, board.Tree);
        PcCmos.DescribeFloppies(Rtc, board.Tree);
    }

    /// <summary>The firmware's next start is to wake what sleeps.</summary>
    public void ExpectWakeUp() => PcCmos.ExpectWakeUp(Rtc);

    /// <summary>Those that the next start waits for.</summary>
    public void CountCpus(int cpus) => PcCmos.CountCpus(Rtc, cpus);

    public void SetBootOrder(string letters) => PcCmos.SetBootOrder(Rtc, letters);

    /// <summary>-boot once= was for the first start.</summary>
    public void OnReset(bool isFirst)
    {
        if (!isFirst && _boot.Once != null) PcCmos.SetBootOrder(Rtc, _boot.Order);
    }

    public static DateTime StartDate(RtcConfig rtc) => rtc.Base switch
    {
        RtcBase.Utc => DateTime.UtcNow,
        RtcBase.LocalTime => DateTime.Now,
        _ => rtc.Date,
    };
}
