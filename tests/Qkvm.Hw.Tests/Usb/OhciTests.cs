using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>OHCI 1.0a as a driver sees it, with a keyboard on port 1; then as a hostile driver sees it.</summary>
public sealed class OhciTests : IDisposable
{
    const ulong HcControl = UsbBoard.Mmio + 4, HcCommandStatus = UsbBoard.Mmio + 8,
        HcInterruptStatus = UsbBoard.Mmio + 12, HcInterruptEnable = UsbBoard.Mmio + 0x10,
        HcHCCA = UsbBoard.Mmio + 0x18, HcControlHeadED = UsbBoard.Mmio + 0x20, HcFmNumber = UsbBoard.Mmio + 0x3C,
        HcRhDescriptorA = UsbBoard.Mmio + 0x48, HcRhStatus = UsbBoard.Mmio + 0x50, Port = UsbBoard.Mmio + 0x54;
    const uint Hcca = 0x1_0000, Endpoint = 0x1_1000, Interrupt = 0x1_2000, Descriptors = 0x2_0000, Buffers = 0x3_0000;
    const uint Operational = 0x80, Lists = 0x3C, ControlFilled = 2, BulkFilled = 4;
    const uint WDH = 2, SF = 4, RD = 8, UE = 16, RHSC = 64, MIE = 1u << 31;
    const uint Rounding = 1 << 18, Skip = 1 << 14, Isochronous = 1 << 15, NotAccessed = 15u << 28;
    const int Setup = 0, Out = 1, In = 2;

    readonly UsbBoard _board = new(Ohci.Model, UsbKeyboard.Model);

    UsbKeyboard Keyboard => _board.Keyboard;
    uint Status => _board.Word(HcInterruptStatus);
    uint DoneHead => _board.Word(Hcca + 0x84);

    public void Dispose() => _board.Dispose();

    void Start()
    {
        _board.Words(Port, 0x10);
        _board.Words(Port, 0x1F_0000);
        _board.Words(HcHCCA, Hcca);
        PutEndpoint(Endpoint, 0, 0);
        _board.Words(HcControlHeadED, Endpoint);
        _board.Words(HcInterruptEnable, MIE | WDH | RHSC | UE | RD);
        _board.Words(HcInterruptStatus, RHSC);
        _board.Words(HcControl, Operational | Lists);
    }

    void PutEndpoint(uint at, byte address, int endpoint, uint flags = 0, uint first = 0, uint tail = 0,
        uint next = 0) => _board.Words(at, address | (uint)endpoint << 7 | 8 << 16 | flags, tail, first, next);

    static uint At(int index) => Descriptors + (uint)index * 32;

    void Put(int index, int token, int length, uint flags = 0) => _board.Words(At(index),
        NotAccessed | (uint)token << 19 | flags, length == 0 ? 0 : Buffers + (uint)index * 0x1000, At(index + 1),
        Buffers + (uint)index * 0x1000 + (uint)length - 1);

    uint Condition(int index) => _board.Word(At(index)) >> 28;

    /// <summary>A control transfer of one data packet or none.</summary>
    void Transfer(byte address, byte[] setup, int room, uint flags = Rounding)
    {
        _board.Memory.Write(Buffers, setup);
        Put(0, Setup, 8, 2 << 24);
        if (room > 0) Put(1, In, room, flags | 3 << 24);
        int last = room > 0 ? 2 : 1;
        Put(last, room > 0 ? Out : In, 0, 3 << 24);
        PutEndpoint(Endpoint, address, 0, first: At(0), tail: At(last + 1));
        _board.Words(HcCommandStatus, ControlFilled);
        _board.Run(2);
    }

    void Configure()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0, 5, 3, 0, 0), 0);
        _board.Words(HcInterruptStatus, WDH);
        Transfer(3, UsbBoard.Setup(0, 9, 1, 0, 0), 0);
        _board.Words(HcInterruptStatus, WDH);
    }

    /// <summary>The keyboard's interrupt endpoint, in all of the lists.</summary>
    void Listen()
    {
        Configure();
        Put(0, In, 8);
        PutEndpoint(Interrupt, 3, 1, In << 11, At(0), At(1));
        for (uint i = 0; i < 32; i++) _board.Words(Hcca + i * 4, Interrupt);
    }

    [Fact]
    public void A_port_tells_of_its_device_and_is_enabled_after_a_reset()
    {
        Assert.Equal(0x10u, _board.Word(UsbBoard.Mmio));
        Assert.Equal(0x203u, _board.Word(HcRhDescriptorA));
        Assert.Equal(0x1_0101u, _board.Word(Port));
        Assert.Equal(0x100u, _board.Word(Port + 4));
        _board.Words(Port, 0x10);
        Assert.Equal(0x11_0103u, _board.Word(Port));
        _board.Words(Port, 0x1F_0000);
        Assert.Equal(0x103u, _board.Word(Port));
        _board.Words(Port, 4);
        Assert.Equal(0x107u, _board.Word(Port));
        _board.Words(Port, 8);
        Assert.Equal(0x4_0103u, _board.Word(Port));
        _board.Words(Port, 1);
        Assert.Equal(0x4_0101u, _board.Word(Port));
        _board.Words(Port + 4, 2);                                 // nobody is there
        Assert.Equal(0x1_0100u, _board.Word(Port + 4));
        Assert.Equal(0u, _board.Word(Port + 12));                  // no fourth port
        Assert.Equal(RHSC, Status);
    }

    [Fact]
    public void A_control_transfer_gets_a_descriptor_and_is_handed_over()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x100, 0, 64), 64);
        Assert.Equal((0u, 0u, 0u), (Condition(0), Condition(1), Condition(2)));
        Assert.Equal([18, 1, 0, 2, 0, 0, 0, 8, 0x27, 6], _board.Bytes(Buffers + 0x1000, 10));
        Assert.Equal(Buffers + 0x1000 + 18, _board.Word(At(1) + 4)); // where the next byte would go
        Assert.Equal(At(2), DoneHead);
        Assert.Equal((At(1), At(0), 0u), (_board.Word(At(2) + 8), _board.Word(At(1) + 8), _board.Word(At(0) + 8)));
        Assert.Equal(At(3), _board.Word(Endpoint + 8) & ~15u);
        Assert.Equal(WDH, Status & WDH);
        Assert.True(_board.Interrupt);
        Assert.Equal(0u, _board.Word(HcCommandStatus));            // the list is empty again
        _board.Words(HcInterruptStatus, WDH);
        Assert.False(_board.Interrupt);
    }

    [Fact]
    public void A_short_packet_halts_where_it_may_not_be()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x100, 0, 64), 64, flags: 0);
        Assert.Equal((0u, 9u, 15u), (Condition(0), Condition(1), Condition(2)));
        Assert.Equal(At(2) | 3, _board.Word(Endpoint + 8) | 2);    // halted before the next
        Assert.Equal(At(1), DoneHead);
    }

    [Fact]
    public void What_is_done_waits_for_the_driver_and_for_its_delay()
    {
        Start();
        Put(0, Setup, 8, 5 << 21);
        _board.Memory.Write(Buffers, UsbBoard.Setup(0, 5, 3, 0, 0));
        PutEndpoint(Endpoint, 0, 0, first: At(0), tail: At(1));
        _board.Words(HcCommandStatus, ControlFilled);
        _board.Run(4);
        Assert.Equal((0u, 0u), (Condition(0), DoneHead));
        _board.Run(3);
        Assert.Equal(At(0), DoneHead);
        Put(1, In, 0);
        _board.Words(Endpoint + 4, At(2));
        _board.Words(HcCommandStatus, ControlFilled);
        _board.Run(3);
        Assert.Equal((0u, At(0)), (Condition(1), DoneHead));       // until those before are taken
        _board.Words(HcInterruptStatus, WDH);
        _board.Run(1);
        Assert.Equal(At(1), DoneHead);
    }

    [Fact]
    public void A_key_ends_the_waiting_of_an_interrupt_packet_at_once()
    {
        Listen();
        _board.Run(500);                                           // quiet: frames go together now
        Assert.Equal(15u, Condition(0));
        Keyboard.Key(KeyCode.A, true);
        _board.Run(1);
        Assert.Equal(0u, Condition(0));
        Assert.Equal([0, 0, 4, 0, 0, 0, 0, 0], _board.Bytes(Buffers, 8));
        Assert.Equal(2u, _board.Word(Interrupt + 8) & 3);          // the next packet's toggle
        Assert.True(_board.Interrupt);
    }

    [Fact]
    public void An_endpoint_to_skip_stands_still()
    {
        Listen();
        PutEndpoint(Interrupt, 3, 1, In << 11 | Skip, At(0), At(1));
        Keyboard.Key(KeyCode.A, true);
        _board.Run(40);
        Assert.Equal(15u, Condition(0));
        PutEndpoint(Interrupt, 3, 1, In << 11, At(0), At(1));
        _board.Run(20);
        Assert.Equal(0u, Condition(0));
    }

    [Fact]
    public void Frames_are_numbered_in_memory_and_interrupt_where_asked()
    {
        Start();
        _board.Run(300);
        Assert.False(_board.Interrupt);
        _board.Words(HcInterruptStatus, SF);
        _board.Words(HcInterruptEnable, SF);
        _board.Run(1);
        Assert.True(_board.Interrupt);
        uint frame = _board.Word(HcFmNumber);
        for (uint i = 1; i <= 100; i++)
        {
            _board.Run(1);
            Assert.Equal(frame + i, _board.Word(HcFmNumber));
            Assert.Equal(frame + i, _board.Word(Hcca + 0x80));
        }
    }

    [Fact]
    public void Nothing_answers_at_a_wrong_address_and_a_stall_is_one()
    {
        Start();
        Transfer(9, UsbBoard.Setup(0x80, 6, 0x100, 0, 18), 18);
        Assert.Equal((5u, 15u), (Condition(0), Condition(1)));
        _board.Words(HcInterruptStatus, WDH);
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x900, 0, 18), 18);
        Assert.Equal((0u, 4u, 15u), (Condition(0), Condition(1), Condition(2)));
        Assert.Equal(1u, _board.Word(Endpoint + 8) & 1);
    }

    [Fact]
    public void Isochronous_packets_go_by_their_frames_and_late_ones_are_told()
    {
        Configure();
        PutEndpoint(Interrupt, 3, 1, In << 11 | Isochronous, At(0), At(2));
        uint frame = _board.Word(HcFmNumber);
        void PutIsochronous(int index, uint starts, uint next) => _board.Words(At(index),
            NotAccessed | 1 << 24 | starts & 0xFFFF, Buffers, next, Buffers + 15, 0xE008_E000, 0, 0, 0);
        PutIsochronous(0, frame - 10, At(1));
        PutIsochronous(1, frame + 3, At(2));
        for (uint i = 0; i < 32; i++) _board.Words(Hcca + i * 4, Interrupt);
        Keyboard.Key(KeyCode.A, true);
        _board.Run(1);
        Assert.Equal((8u, 15u), (Condition(0), Condition(1)));
        _board.Run(2);
        Assert.Equal(0xE008_0008u, _board.Word(At(1) + 16));       // eight bytes in the first packet
        _board.Run(1);
        Assert.Equal((0u, 0x9000_0008u), (Condition(1), _board.Word(At(1) + 16))); // none in the second
        Assert.Equal([0, 0, 4, 0, 0, 0, 0, 0], _board.Bytes(Buffers, 8));
    }

    [Fact]
    public void A_suspended_bus_resumes_for_a_key_where_the_device_may()
    {
        Configure();
        _board.Words(HcControl, 0xC0);
        Keyboard.Key(KeyCode.A, true);
        Assert.Equal(0u, Status & RD);
        _board.Words(HcControl, Operational | Lists);
        Transfer(3, UsbBoard.Setup(0, 3, 1, 0, 0), 0);             // remote wake-up
        _board.Words(HcControl, 0xC0);
        _board.Words(HcInterruptStatus, ~0u);
        Keyboard.Key(KeyCode.A, false);
        Assert.Equal(RD, Status);
        Assert.Equal(0x40u, _board.Word(HcControl));
        Assert.True(_board.Interrupt);
    }

    [Fact]
    public void A_device_that_leaves_or_comes_is_seen_and_wakes_where_asked()
    {
        Start();
        _board.Words(HcControl, 0xC0);
        _board.Sites[0].Dispose();
        Assert.Equal(0x3_0100u, _board.Word(Port));
        Assert.Equal((RHSC, 0xC0u), (Status & (RHSC | RD), _board.Word(HcControl)));
        _board.Words(HcRhStatus, 0x8000);
        Assert.Equal(0x8000u, _board.Word(HcRhStatus));
        _board.Plug(UsbPointer.Tablet, ("port", "1"));
        Assert.Equal((RD, 0x40u), (Status & RD, _board.Word(HcControl)));
        _board.Words(HcRhStatus, 1u << 31);
        Assert.Equal(0u, _board.Word(HcRhStatus));
    }

    [Fact]
    public void State_survives_a_transfer_that_waits()
    {
        Listen();
        _board.Run(5);
        _board.GoesOnElsewhere(Ohci.Model, Buffers);
    }

    [Fact]
    public void Ports_are_as_many_as_asked_for_and_may_be_another_controllers()
    {
        using var board = new UsbBoard(Ehci.Ich9);
        Assert.Throws<ConfigurationException>(() => board.Make(Ohci.Model, ("masterbus", "nobody.0")));
        (PciDevice ohci, DeviceSite site) = board.Make(Ohci.Model, ("masterbus", board.Site.Buses[0].Name),
            ("num-ports", "4"), ("firstport", "2"));
        Assert.Equal(0x1406u, board.Word(UsbBoard.Mmio + 4));      // one companion, of four ports
        board.Pci.Bus.WriteConfig(ohci.DevFn, 0x10, 4, 0xFE10_0000);
        board.Pci.Enable(ohci);
        UsbDevice keyboard = board.Plug(UsbKeyboard.Model, ("port", "3"));
        Assert.Equal((UsbSpeed.Full, 0x1_0101u), (keyboard.Speed, board.Word(0xFE10_0054)));
        site.Dispose();
        Assert.Equal(UsbSpeed.High, keyboard.Speed);
    }

    // Hostile drivers

    [Theory]
    [InlineData(0)] [InlineData(1)] [InlineData(2)] [InlineData(3)]
    public void Circles_of_endpoints_and_descriptors_end(int kind)
    {
        Configure();
        switch (kind)
        {
            case 0:                                                // endpoints without work
                PutEndpoint(Endpoint, 3, 0, next: Endpoint);
                break;
            case 1:                                                // setups without end: done, it leads to itself
                PutEndpoint(Endpoint, 3, 0, first: At(0), tail: At(9));
                Put(0, Setup, 8);
                _board.Words(At(0) + 8, At(0));
                break;
            case 2:
                PutEndpoint(Interrupt, 3, 1, In << 11, next: Interrupt);
                for (uint i = 0; i < 32; i++) _board.Words(Hcca + i * 4, Interrupt);
                break;
            default:                                               // ten thousand endpoints, each with a setup
                for (uint i = 0; i < 10_000; i++)
                    PutEndpoint(0x10_0000 + i * 16, 3, 0, first: At(0), tail: At(9),
                        next: 0x10_0000 + (i + 1) % 10_000 * 16);
                _board.Words(HcControlHeadED, 0x10_0000);
                Put(0, Setup, 8);
                _board.Words(At(0) + 8, At(0));
                break;
        }
        _board.Words(HcCommandStatus, ControlFilled | BulkFilled);
        _board.Run(3000);
        Assert.Equal(0u, Status & UE);
    }

    [Theory]
    [InlineData((uint)TestMemory.IoAddress)] [InlineData((uint)TestMemory.HoleAddress)]
    [InlineData((uint)TestMemory.RomAddress)]
    public void Data_for_what_is_no_memory_stop_the_controller_until_it_is_reset(uint address)
    {
        Configure();
        _board.Memory.Write(Buffers, UsbBoard.Setup(0x80, 6, 0x100, 0, 18));
        Put(0, Setup, 8);
        Put(1, In, 18);
        _board.Words(At(1) + 4, address, At(2), address + 17);
        PutEndpoint(Endpoint, 3, 0, first: At(0), tail: At(2));
        _board.Words(HcCommandStatus, ControlFilled);
        _board.Run(2);
        Assert.Equal(UE, Status & UE);
        Assert.True(_board.Interrupt);
        Assert.Equal(0, _board.Pci.Memory.Registers.Accesses);
        uint frame = _board.Word(HcFmNumber);
        _board.Run(10);
        Assert.Equal(frame, _board.Word(HcFmNumber));
        _board.Words(HcCommandStatus, 1);
        Assert.Equal((0u, 0xC0u), (Status, _board.Word(HcControl)));
    }

    [Theory]
    [InlineData(0x3800u, 0x3000u, UE)]                             // ends before it begins, on its page
    [InlineData(0x3000u, 0x2FFEu, 0u)]                             // two pages, which may lie anywhere
    public void A_buffer_without_sense_is_no_setup(uint first, uint last, uint status)
    {
        Configure();
        Put(0, Setup, 8);
        _board.Words(At(0) + 4, first, At(1), last);
        PutEndpoint(Endpoint, 3, 0, first: At(0), tail: At(1));
        _board.Words(HcCommandStatus, ControlFilled);
        _board.Run(2);
        Assert.Equal((status, status == 0 ? 4u : 15u), (Status & UE, Condition(0)));
    }

    [Fact]
    public void An_area_that_is_no_memory_stops_the_controller()
    {
        Start();
        _board.Words(HcHCCA, (uint)TestMemory.HoleAddress);
        _board.Run(1);
        Assert.Equal(UE, Status & UE);
    }

    [Theory]
    [InlineData(0xE000_E010u, 15u)] [InlineData(0xFFFF_FFFFu, 0u)]
    public void Isochronous_packets_that_end_before_they_begin_move_nothing(uint offsets, uint end)
    {
        Configure();
        PutEndpoint(Interrupt, 3, 1, In << 11 | Isochronous, At(0), At(1));
        _board.Words(At(0), NotAccessed | 7 << 24 | _board.Word(HcFmNumber) + 1 & 0xFFFF, Buffers, At(1), Buffers + end,
            offsets, offsets, offsets, offsets);
        for (uint i = 0; i < 32; i++) _board.Words(Hcca + i * 4, Interrupt);
        Keyboard.Key(KeyCode.A, true);
        _board.Run(20);
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 0], _board.Bytes(Buffers + 0x20, 8));
    }
}
