using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using static Qkvm.Hw.Net.Rtl8139Register;

namespace Qkvm.Hw.Net;

/// <summary>RealTek RTL8139C+, in C mode and in C+ mode. "RTL8139C(L)+" data sheet 1.6.</summary>
/// <remarks>Deviations: frames wait on the wire where the driver has given no room; the FCS behind a received frame
/// reads as zeros; no wake-up, early interrupts, high priority queue, flow control or CardBus.</remarks>
public sealed partial class Rtl8139 : PciDevice, IRegisterBank, INetPort, INetCard
{
    const ulong Space = 256;
    const uint TimerHertz = 33_000_000;
    const int Slots = 4;                                           // transmit descriptors of C mode
    const int LargestFrame = 65536 + 128, ShortestFrame = 60, EthernetHeader = 14, FcsLength = 4;
    const byte NoRegister = 0xFF;
    const byte LinkDown = 4;                                       // MSR, LINKB
    const ushort HasLink = 0x24;                                   // BMSR: negotiated, link

    static readonly byte[] s_registerAt = Index();

    readonly NetCardSite _site;
    readonly INetQueue? _wire;
    readonly FrameFinisher _finisher = new();
    readonly Memory<byte>[] _sending = new Memory<byte>[1];        // not migrated: of one frame
    readonly byte[] _gathered = new byte[LargestFrame];            // not migrated: beyond _gatheredLength
    readonly byte[] _receiving = new byte[LargestFrame];           // not migrated: of one frame
    readonly byte[] _registers = new byte[Space];
    readonly Microwire _eeprom;
    readonly TickClock _ticks;
    readonly IVirtualClock _clock;
    readonly CardTimer _timer, _more;
    readonly Tally _tally = new();
    int _gatheredLength;
    bool _isTooLong;
    uint _firstCommand;                                            // of the frame that is gathered
    int _slot, _plusTransmit, _plusReceive;                        // the next descriptor
    long _timerStart;                                              // nanoseconds
    bool _isWaiting;                                               // not migrated: loading looks for room anew
    bool _isConnected = true;                                      // not migrated: the monitor's

    public Rtl8139(NetCardSite site) : base(new PciIdentity(0x10EC, 0x8139, 0x020000, Revision: 0x20), "rtl8139")
    {
        _site = site;
        _clock = site.Clock;
        _ticks = new TickClock(site.Clock, TimerHertz);
        ushort[] words = new ushort[Microwire.Words];
        (words[0], words[1], words[2]) = (0x8129, 0x10EC, 0x8139);
        const int MacWord = 7;
        for (int i = 0; i < 3; i++)
            words[MacWord + i] = BinaryPrimitives.ReadUInt16LittleEndian(site.Mac.AsSpan(2 * i));
        _eeprom = new Microwire(words);
        _timer = new CardTimer(site.Clock, () => Raise(TimeOut));
        _more = new CardTimer(site.Clock, TransmitPlus);
        Bar(0, MemoryRegion.Io("rtl8139-io", Space, this, AccessSizes.UpToDword), BarKind.Io);
        Bar(1, MemoryRegion.Io("rtl8139-mmio", Space, this, AccessSizes.UpToDword), BarKind.Memory32);
        ResetDevice();
        _wire = site.Backend?.Open(0, this, site.Loop);
        _wire?.Accept(site.Backend!.Gives & (NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6
            | NetOffloads.TsoEcn));
    }

    public override string InstalledRom => "efi-rtl8139.rom";

    public byte[] CurrentMac => _registers[..6];
    NetBackend? INetCard.Backend => _site.Backend;
    ReadOnlySpan<byte> INetCard.Mac => CurrentMac;

    public bool IsLinkUp => _isConnected && _site.Backend != null;

    /// <summary>set_link of the monitor.</summary>
    public void SetLink(bool up)
    {
        if (_isConnected == up) return;
        _isConnected = up;
        ShowLink();
        Raise(LinkChange);
        if (up) _wire?.Resume();
    }

    public void Announce()
    {
        if (IsLinkUp && _wire != null) SelfAnnouncement.Send(_wire, CurrentMac);
    }

    /// <summary>The card is unplugged: the backend is another's. Under the machine lock.</summary>
    public void Close() => _wire?.Dispose();

    public ulong Read(ulong offset, int size)
    {
        ulong value = 0;
        for (int i = size - 1; i >= 0; i--) value = value << 8 | ReadByte((int)offset + i);
        return value;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int at = (int)offset, end = Math.Min(at + size, (int)Space);
        while (at < end)
        {
            byte index = s_registerAt[at];
            if (index == NoRegister)
            {
                at++;
                continue;
            }
            Rtl8139Register register = Table[index];
            uint written = 0, mask = 0;
            for (; at < end && at < register.Offset + register.Size; at++)
            {
                int shift = (at - register.Offset) * 8;
                written |= (uint)(byte)(value >> ((at - (int)offset) * 8)) << shift;
                mask |= 0xFFu << shift;
            }
            if (!register.IsLocked || IsUnlocked) Written(register, written, mask);
        }
    }

    protected override void ResetDevice()
    {
        ResetChip();
        _eeprom.Reset();
        LoadMac();
        ShowLink();
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Block("registers", _registers);
        _eeprom.Exchange(state.Group("eeprom"));
        _timer.Exchange(state, "timer");
        _more.Exchange(state, "more");
        _tally.Exchange(state.Group("tally"));
        byte[] gathered = _gathered.AsSpan(0, _gatheredLength).ToArray();
        state.Blob("gathered", ref gathered, LargestFrame);
        state.Field("too-long", ref _isTooLong);
        state.Field("first-command", ref _firstCommand);
        state.Field("slot", ref _slot, 0, Slots - 1);
        state.Field("plus-transmit", ref _plusTransmit, 0, MostDescriptors);
        state.Field("plus-receive", ref _plusReceive, 0, MostDescriptors);
        state.Field("timer-start", ref _timerStart);
        for (int i = 0; i < (int)Space; i++)
            if (_registers[i] != 0 && s_registerAt[i] == NoRegister)
                throw state.Refuse("registers", $"nothing is at {i:x}");
        if (!state.IsLoading) return;
        _gatheredLength = gathered.Length;
        gathered.CopyTo(_gathered, 0);
        _isWaiting = false;
        _wire?.Resume();
    }

    uint Get(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_registers.AsSpan(offset));
    ushort Get16(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_registers.AsSpan(offset));
    void Set(int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(_registers.AsSpan(offset), value);
    void Set16(int offset, ushort value) =>
        BinaryPrimitives.WriteUInt16LittleEndian(_registers.AsSpan(offset), value);
    ulong Long(int offset) => Get(offset) | (ulong)Get(offset + 4) << 32;

    bool IsUnlocked => (_registers[CR9346] & 0xC0) == 0xC0;

    byte ReadByte(int offset)
    {
        const byte DataOut = 1;
        switch (offset)
        {
            case >= (int)Space: return 0;
            case CR: return (byte)(_registers[CR] & ~BufferEmpty | (IsBufferEmpty ? BufferEmpty : 0));
            case CR9346: return (byte)(_registers[CR9346] | (IsProgramming && _eeprom.Out ? DataOut : 0));
            case >= TCTR and < TCTR + 4:
                uint ticks = (uint)(_ticks.Now - (long)((Int128)_timerStart * TimerHertz / 1_000_000_000));
                return (byte)(ticks >> ((offset - TCTR) * 8));
            case TSADS or TSADS + 1:
                int summary = 0;
                for (int i = 0; i < Slots; i++)
                {
                    uint status = Get(TSD + 4 * i);
                    if ((status & Own) != 0) summary |= 1 << i;
                    if ((status & Rtl8139Register.Sent) != 0) summary |= 1 << (12 + i);
                }
                return (byte)(summary >> ((offset - TSADS) * 8));
            default: return _registers[offset];
        }
    }

    bool IsProgramming => (_registers[CR9346] & 0xC0) == 0x80;

    /// <param name="mask">The bytes that are written.</param>
    void Written(in Rtl8139Register register, uint value, uint mask)
    {
        uint before = register.Size switch { 4 => Get(register.Offset), 2 => Get16(register.Offset),
            _ => _registers[register.Offset] };
        uint writable = register.Writable & mask, now = before & ~writable | value & writable;
        switch (register.Offset)
        {
            case TSD when IsPlusTransmit:
                DumpTally(value);
                return;
            case >= TSD and < TSD + 4 * Slots:
                Set(register.Offset, now & Settable | before & ~Settable & ~(Own | Rtl8139Register.Sent)
                    | value & mask & Own);
                Transmit();
                return;
            case CR when (value & SoftReset) != 0: ResetChip(); return;
            case ISR:
                Set16(ISR, (ushort)(before & ~value));
                UpdateInterrupt();
                Resume();
                return;
            case MPC: Set(MPC, 0); return;
            case TCTR:
                _timerStart = _clock.Nanoseconds;
                ArmTimer();
                return;
            case TPPOLL:
                const uint SoftwareInterrupt = 1, NormalQueue = 0x40;
                if ((value & SoftwareInterrupt) != 0) Raise(SWInt);
                if ((value & NormalQueue) != 0) TransmitPlus();
                return;
        }
        if (register.Size == 4) Set(register.Offset, now);
        else if (register.Size == 2) Set16(register.Offset, (ushort)now);
        else _registers[register.Offset] = (byte)now;
        Changed(register.Offset, before, now);
    }

    void Changed(int offset, uint before, uint now)
    {
        switch (offset)
        {
            case CR:
                if ((now & ~before & TransmitEnable) != 0) _slot = 0;
                if ((now & ~before & ReceiveEnable) != 0) _plusReceive = 0;
                Resume();
                break;
            case CAPR or RCR: Resume(); break;
            case RBSTART:
                Set16(CBR, 0);
                Set16(CAPR, 0xFFF0);
                break;
            case IMR:
                UpdateInterrupt();
                Resume();
                break;
            case TNPDS or TNPDS + 4: _plusTransmit = 0; break;
            case RDSAR or RDSAR + 4: _plusReceive = 0; break;
            case CR9346:
                if ((now & 0xC0) == 0x40)
                {
                    LoadMac();
                    _registers[CR9346] = 0;
                }
                _eeprom.Set(IsProgramming && (now & 8) != 0, (now & 4) != 0, (now & 2) != 0);
                break;
            case TIMERINT: ArmTimer(); break;
        }
    }

    /// <summary>CR.RST; the address, the configuration and the PHY stay.</summary>
    void ResetChip()
    {
        byte[] mac = _registers[..6];
        foreach (Rtl8139Register register in Table)
        {
            if (register.Size == 4) Set(register.Offset, register.Reset);
            else if (register.Size == 2) Set16(register.Offset, (ushort)register.Reset);
            else _registers[register.Offset] = (byte)register.Reset;
        }
        mac.CopyTo(_registers, 0);
        ShowLink();
        _timer.Cancel();
        _more.Cancel();
        _tally.Reset();
        (_gatheredLength, _isTooLong, _firstCommand) = (0, false, 0);
        (_slot, _plusTransmit, _plusReceive, _timerStart) = (0, 0, 0, 0);
        IntX.Set(false);
    }

    void LoadMac() => _site.Mac.CopyTo(_registers, 0);

    void ShowLink()
    {
        _registers[MSR] = (byte)(IsLinkUp ? _registers[MSR] & ~LinkDown : _registers[MSR] | LinkDown);
        Set16(BMSR, (ushort)(IsLinkUp ? Get16(BMSR) | HasLink : Get16(BMSR) & ~HasLink));
    }

    void ArmTimer()
    {
        uint ticks = Get(TIMERINT);
        if (ticks == 0)
        {
            _timer.Cancel();
            return;
        }
        long due = _timerStart + (long)(((ulong)ticks * 1_000_000_000 + TimerHertz - 1) / TimerHertz);
        if (due > _clock.Nanoseconds) _timer.ArmIn(due - _clock.Nanoseconds);
        else _timer.Cancel();
    }

    void Raise(ushort causes)
    {
        Set16(ISR, (ushort)(Get16(ISR) | causes));
        UpdateInterrupt();
    }

    void UpdateInterrupt() => IntX.Set((Get16(ISR) & Get16(IMR)) != 0);

    static byte[] Index()
    {
        var index = new byte[Space];
        Array.Fill(index, NoRegister);
        for (int i = 0; i < Table.Length; i++) index.AsSpan(Table[i].Offset, Table[i].Size).Fill((byte)i);
        return index;
    }

    /// <summary>What C+ mode counts, and dumps for the driver. Section 6.3, "Dump Tally Counter Command".</summary>
    sealed class Tally
    {
        public const int Length = 64;

        public ulong Transmitted, Received, Broadcasts;
        public uint Multicasts;
        public ushort Missed;

        public void Reset() => (Transmitted, Received, Broadcasts, Multicasts, Missed) = (0, 0, 0, 0, 0);

        public void Write(Span<byte> target)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(target, Transmitted);
            BinaryPrimitives.WriteUInt64LittleEndian(target[8..], Received);
            BinaryPrimitives.WriteUInt16LittleEndian(target[28..], Missed);
            BinaryPrimitives.WriteUInt64LittleEndian(target[40..], Received);
            BinaryPrimitives.WriteUInt64LittleEndian(target[48..], Broadcasts);
            BinaryPrimitives.WriteUInt32LittleEndian(target[56..], Multicasts);
        }

        public void Exchange(StateStream state)
        {
            state.Field("transmitted", ref Transmitted);
            state.Field("received", ref Received);
            state.Field("broadcasts", ref Broadcasts);
            state.Field("multicasts", ref Multicasts);
            state.Field("missed", ref Missed);
        }
    }
}
