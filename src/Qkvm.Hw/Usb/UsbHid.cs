using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Time;
using Qkvm.Core.Usb;

namespace Qkvm.Hw.Usb;

/// <summary>A device of the HID class with one interface and one interrupt endpoint. Spec: Device Class Definition for
/// Human Interface Devices 1.11, chapters 6 and 7.</summary>
public abstract class UsbHid : UsbDevice
{
    // bmRequestType << 8 | bRequest
    const ushort GetDescriptor = 0x8106, GetReport = 0xA101, GetIdle = 0xA102, GetProtocol = 0xA103,
        SetReport = 0x2109, SetIdle = 0x210A, SetProtocol = 0x210B;
    const byte HidDescriptor = 0x21, ReportDescriptor = 0x22, BootProtocol = 0, ReportProtocol = 1;
    protected const byte InEndpoint = UsbEndpoint.In | 1;
    const long IdleUnit = 4_000_000, Never = long.MaxValue;        // 4 ms, section 7.2.4
    const int LongestReport = 8;

    static readonly string[] s_texts = ["QEMU", "QEMU USB Mouse", "QEMU USB Tablet", "QEMU USB Keyboard", "42",
        "HID Mouse", "HID Tablet", "HID Keyboard", "89126", "28754", "68284"];

    readonly UsbHidKind _kind;
    readonly IVirtualClock _clock;
    readonly IVmTimer _repeat;
    byte _idle, _protocol = ReportProtocol;
    long _due = Never;                                             // of a report that tells nothing new

    private protected UsbHid(UsbHidKind kind, string name, Properties properties, DeviceSite site)
        : base(name, Describe(kind, properties), properties)
    {
        (_kind, _clock) = (kind, site.Clock);
        _repeat = site.Clock.CreateTimer(() => Wake(InEndpoint));
    }

    /// <summary>What all of them take.</summary>
    protected static Property[] Own =>
    [
        Property.Number("usb_version", 2, min: 1, max: 2, help: "1: full speed alone"),
        Property.Missing("display"),
    ];

    /// <summary>There is news for the host.</summary>
    protected abstract bool HasReport { get; }

    /// <summary>The next report, or the last one again where there is no news.</summary>
    /// <returns>Its length.</returns>
    protected abstract int TakeReport(Span<byte> report);

    /// <summary>As <see cref="TakeReport"/>, but what is news stays it.</summary>
    protected abstract int PeekReport(Span<byte> report);

    /// <summary>The host listens to it, for the first time since it was reset; or it was reset since.</summary>
    protected abstract void OnListening(bool isListening);

    protected virtual void SetOutput(ReadOnlySpan<byte> report) { }

    protected bool IsListening { get; private set; }

    protected override void ResetDevice()
    {
        (_idle, _protocol) = (0, ReportProtocol);
        if (IsListening) OnListening(false);
        IsListening = false;
        Arm();
    }

    protected override UsbStatus Transfer(UsbPacket packet)
    {
        if (!IsListening)
        {
            IsListening = true;
            OnListening(true);
        }
        if (!HasReport && _clock.Nanoseconds < _due) return UsbStatus.Nak;
        Span<byte> report = stackalloc byte[LongestReport];
        packet.Put(report[..TakeReport(report)]);
        Arm();
        return UsbStatus.Success;
    }

    protected override int AnswerRequest(in UsbSetup setup, Span<byte> answer)
    {
        switch (setup.Code)
        {
            case GetDescriptor when setup.Value >> 8 == ReportDescriptor: return Copy(_kind.Report, answer);
            case GetDescriptor when setup.Value >> 8 == HidDescriptor: return Copy(_kind.Descriptor, answer);
            case GetReport:
                Span<byte> report = stackalloc byte[LongestReport];
                return Copy(report[..PeekReport(report)], answer);
            case GetIdle: return Copy([_idle], answer);
            case GetProtocol when _kind.IsBoot: return Copy([_protocol], answer);
            default: return Stall;
        }
    }

    protected override bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data)
    {
        switch (setup.Code)
        {
            case SetReport:
                SetOutput(data);
                return true;
            case SetIdle:
                _idle = (byte)(setup.Value >> 8);
                Arm();
                return true;
            case SetProtocol when _kind.IsBoot && setup.Value is BootProtocol or ReportProtocol:
                _protocol = (byte)setup.Value;
                return true;
            default: return false;
        }
    }

    protected override void ExchangeDevice(StateStream state)
    {
        bool isListening = IsListening;
        state.Field("idle", ref _idle);
        state.Field("protocol", ref _protocol);
        state.Field("due", ref _due);
        state.Field("listening", ref isListening);
        if (_protocol > ReportProtocol) throw state.Refuse("protocol", $"{_protocol} is none");
        if (_due < 0) throw state.Refuse("due", "before time began");
        if (!state.IsLoading) return;
        IsListening = isListening;
        ArmTimer();
    }

    void Arm()
    {
        _due = _idle == 0 ? Never : _clock.Nanoseconds + _idle * IdleUnit;
        ArmTimer();
    }

    void ArmTimer()
    {
        if (_due == Never) _repeat.Cancel();
        else _repeat.ArmAt(_due);
    }

    static int Copy(ReadOnlySpan<byte> what, Span<byte> answer)
    {
        int count = Math.Min(what.Length, answer.Length);
        what[..count].CopyTo(answer);
        return count;
    }

    static UsbDescription Describe(UsbHidKind kind, Properties properties)
    {
        const ushort vendor = 0x0627, product = 1;
        const byte fullPacket0 = 8, highPacket0 = 64, power = 50;
        UsbLayout Layout(ushort version, byte packet0, byte interval) => new(version, packet0, new UsbConfiguration(1,
            UsbConfiguration.RemoteWakeup, power, new UsbInterface(0, 3, (byte)(kind.IsBoot ? 1 : 0), kind.BootProtocol,
                new UsbEndpoint(InEndpoint, UsbTransfer.Interrupt, kind.MaxPacket, interval))
            { Extra = kind.Descriptor })
        { Text = kind.Interface });
        return new UsbDescription(vendor, product, 0, s_texts)
        {
            Product = kind.Product,
            Serial = kind.Serial,
            SuspendsOnWindows = true,
            Full = Layout(0x0100, fullPacket0, kind.FullInterval),
            High = properties.Number("usb_version") == 1 ? null
                : Layout(0x0200, highPacket0, kind.HighInterval),
        };
    }
}

/// <summary>In what HID devices differ.</summary>
/// <param name="Product">A string's number, as <paramref name="Interface"/> and <paramref name="Serial"/>.</param>
/// <param name="BootProtocol">1 keyboard, 2 mouse, 0 none (appendix E.3).</param>
/// <param name="Report">The report descriptor.</param>
/// <param name="HighInterval">Polling at high speed: 2^(n-1) microframes.</param>
sealed record UsbHidKind(byte Product, byte Interface, byte Serial, byte BootProtocol, ushort HidVersion,
    ushort MaxPacket, byte HighInterval, byte[] Report)
{
    const byte HidDescriptor = 0x21, ReportDescriptor = 0x22, Size = 9;

    public byte FullInterval => 10;                                // ms
    public bool IsBoot => BootProtocol != 0;

    /// <summary>Section 6.2.1.</summary>
    public byte[] Descriptor { get; } = [Size, HidDescriptor, (byte)HidVersion, (byte)(HidVersion >> 8), 0, 1,
        ReportDescriptor, (byte)Report.Length, (byte)(Report.Length >> 8)];
}
