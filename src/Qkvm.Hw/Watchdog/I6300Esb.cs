using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Watchdog;

/// <summary>i6300esb: the watchdog timer of Intel's 6300ESB. Two stages run down one after the other; the end of the
/// second resets the machine. Spec: Intel 6300ESB I/O Controller Hub, order 300641, chapter 16 "Watchdog Timer";
/// register names are its.</summary>
/// <remarks>Deviations: no interrupt and no SMI come of the first stage; WDT_TOUT# is no pin of which to toggle the
/// level.</remarks>
public sealed class I6300Esb : PciDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("i6300esb", BusKind.Pci, [],
        static (_, site) => new I6300Esb(site.Clock, site.Board.RequestWatchdog))
        { Description = "Intel 6300ESB watchdog" };

    // Configuration space, section 16.3: WDT Configuration and Lock
    const int Configuration = 0x60, Lock = 0x68;
    const byte PrescalerFast = 0x04, OutputDisabled = 0x20, ConfigurationWritable = 0x27;
    const byte Locked = 0x01, Enabled = 0x02, FreeRunning = 0x04, LockWritable = 0x07;

    // Memory, section 16.4
    const ulong Preload1 = 0x00, Preload2 = 0x04, InterruptStatus = 0x08, Reload = 0x0C, Size = 0x10;
    const ushort ReloadNow = 0x0100, TimedOut = 0x0200;
    const uint PreloadMask = 0xFFFFF;
    const byte Unlock1 = 0x80, Unlock2 = 0x86;                     // sequence that comes before each write

    // The down counter runs with the 33 MHz of PCI; preloads are its bits 34:15, or 24:5 with the fast prescaler.
    const int SlowShift = 15, FastShift = 5;
    const long NanosecondsPerTick = 30;

    readonly IVirtualClock _clock;
    readonly Action _expired;
    readonly IVmTimer _timer;
    uint _preload1, _preload2;
    int _unlock;                                                   // steps of the sequence that were made
    int _stage;                                                    // 1 or 2; 0: it stands
    bool _timedOut;                                                // outlives the reset that it made
    long _deadline = TickClock.Never;

    /// <param name="expired">The second stage has run out.</param>
    public I6300Esb(IVirtualClock clock, Action expired)
        : base(new PciIdentity(0x8086, 0x25AB, 0x088000, HasInterruptPin: false), Model.Name)
    {
        (_clock, _expired) = (clock, expired);
        _timer = clock.CreateTimer(RanOut);
        Config.Define(Configuration, 0, ConfigurationWritable);
        Config.Define(Lock, 0, LockWritable);
        Bar(0, MemoryRegion.Io(Name, Size, this, AccessSizes.UpToDword), BarKind.Memory32);
        ResetDevice();
    }

    protected override void ResetDevice()
    {
        (_preload1, _preload2, _unlock) = (PreloadMask, PreloadMask, 0);
        Config.SetWritable(Lock, LockWritable);
        Begin(0);
    }

    protected override void OnConfigWritten(int offset, int size)
    {
        if (offset > Lock || offset + size <= Lock) return;
        if ((Config[Lock] & Locked) != 0) Config.SetWritable(Lock, 0);     // until the machine is reset
        bool isEnabled = (Config[Lock] & Enabled) != 0;
        if (isEnabled != (_stage != 0)) Begin(isEnabled ? 1 : 0);
    }

    public ulong Read(ulong offset, int size) => offset switch
    {
        Preload1 => _preload1,
        Preload2 => _preload2,
        Reload when size > 1 => _timedOut ? TimedOut : 0u,
        Reload + 1 => _timedOut ? (ulong)(TimedOut >> 8) : 0,
        _ => 0,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        bool isUnlocked = _unlock == 2;
        _unlock = offset == Reload && (byte)value == Unlock1 ? 1
            : offset == Reload && (byte)value == Unlock2 && _unlock == 1 ? 2 : 0;
        if (!isUnlocked) return;
        switch (offset)
        {
            case Preload1: _preload1 = (uint)value & PreloadMask; break;
            case Preload2: _preload2 = (uint)value & PreloadMask; break;
            case Reload:
                if ((value & ReloadNow) != 0 && _stage != 0) Begin(1);
                if ((value & TimedOut) != 0) _timedOut = false;
                break;
        }
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("preload1", ref _preload1);
        state.Field("preload2", ref _preload2);
        state.Field("unlock", ref _unlock, 0, 2);
        state.Field("stage", ref _stage, 0, 2);
        state.Field("timed-out", ref _timedOut);
        state.Field("deadline", ref _deadline);
        if (_deadline < 0) throw new InvalidStateException($"{Name}: a deadline before time began");
        if (!state.IsLoading) return;
        Config.SetWritable(Lock, (Config[Lock] & Locked) != 0 ? (byte)0 : LockWritable);
        Arm(_deadline);
    }

    bool IsFreeRunning => (Config[Lock] & FreeRunning) != 0;

    void Begin(int stage)
    {
        _stage = stage;
        int shift = (Config[Configuration] & PrescalerFast) != 0 ? FastShift : SlowShift;
        long ticks = (long)(stage == 1 ? _preload1 : _preload2) + 1 << shift;
        Arm(stage == 0 ? TickClock.Never : _clock.Nanoseconds + ticks * NanosecondsPerTick);
    }

    void RanOut()
    {
        if (_stage == 1)
        {
            Begin(2);
            return;
        }
        if ((Config[Configuration] & OutputDisabled) == 0)
        {
            _timedOut = true;
            _expired();
        }
        Begin(IsFreeRunning ? 1 : 0);
    }

    void Arm(long deadline)
    {
        _deadline = deadline;
        if (deadline == TickClock.Never) _timer.Cancel();
        else _timer.ArmAt(deadline);
    }
}
