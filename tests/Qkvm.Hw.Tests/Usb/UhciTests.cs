using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>UHCI 1.1 as a driver sees it, with a keyboard on port 1; then as a hostile driver sees it.</summary>
public sealed class UhciTests : IDisposable
{
    const ulong Frames = 0x1_0000, Descriptors = 0x2_0000, Buffers = 0x3_0000, Queue = 0x4_0000;
    const ulong USBCMD = UsbBoard.Io, USBSTS = USBCMD + 2, USBINTR = USBCMD + 4, FRNUM = USBCMD + 6,
        FRBASEADD = USBCMD + 8, PORTSC = USBCMD + 16;
    const uint Terminate = 1, Active = 1 << 23, Ioc = 1 << 24, ShortDetect = 1 << 29, Stalled = 1 << 22, Nak = 1 << 19,
        Timeout = 1 << 18, IsQueue = 2;
    const byte In = 0x69, Out = 0xE1, SetupPid = 0x2D;

    readonly UsbBoard _board = new(Uhci.Piix3, UsbKeyboard.Model);

    UsbKeyboard Keyboard => _board.Keyboard;

    public void Dispose() => _board.Dispose();

    ushort Status => (ushort)_board.Ports.Read(USBSTS, 2);
    ushort Port => (ushort)_board.Ports.Read(PORTSC, 2);

    void Start()
    {
        _board.Ports.Write(PORTSC, 2, 0x200);
        _board.Ports.Write(PORTSC, 2, 0);
        _board.Ports.Write(PORTSC, 2, 4);
        for (ulong i = 0; i < 1024; i++) _board.Words(Frames + i * 4, (uint)Queue | IsQueue);
        _board.Words(Queue, Terminate, Terminate);
        _board.Ports.Write(FRBASEADD, 4, Frames);
        _board.Ports.Write(USBINTR, 2, 15);
        _board.Ports.Write(USBCMD, 2, 1);
    }

    void Put(int index, byte pid, int length, uint control = 0, byte address = 0, int endpoint = 0, bool last = false)
    {
        ulong at = Descriptors + (ulong)index * 32;
        _board.Words(at, last ? Terminate : (uint)at + 32 | 4, Active | control,
            (uint)((length - 1 & 0x7FF) << 21 | endpoint << 15 | address << 8 | pid),
            (uint)(Buffers + (ulong)index * 0x100));
    }

    void Submit() => _board.Words(Queue + 4, (uint)Descriptors);

    uint Control(int index) => _board.Word(Descriptors + (ulong)index * 32 + 4);

    /// <summary>A control transfer of one data packet or none.</summary>
    void Transfer(byte address, byte[] setup, int room)
    {
        _board.Memory.Write(Buffers, setup);
        Put(0, SetupPid, 8, address: address);
        if (room > 0) Put(1, In, room, ShortDetect, address);
        Put(room > 0 ? 2 : 1, room > 0 ? Out : In, 0, Ioc, address, last: true);
        Submit();
        _board.Run(2);
    }

    void Configure()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0, 5, 3, 0, 0), 0);
        Transfer(3, UsbBoard.Setup(0, 9, 1, 0, 0), 0);
        _board.Ports.Write(USBSTS, 2, 0x1F);
    }

    [Fact]
    public void A_port_tells_of_its_device_and_is_enabled_after_a_reset()
    {
        Assert.Equal(0x93, Port & 0xFFF);                          // connected, changed, D+ high
        _board.Ports.Write(PORTSC, 2, 2);
        Assert.Equal(0x91, Port & 0xFFF);
        _board.Ports.Write(PORTSC, 2, 0x204);
        Assert.Equal(0, Port & 4);                                 // not while in reset
        _board.Ports.Write(PORTSC, 2, 4);
        Assert.Equal(4, Port & 4);
        _board.Ports.Write(PORTSC + 2, 2, 4);
        Assert.Equal(0x80u, (uint)_board.Ports.Read(PORTSC + 2, 2)); // nothing is there
        Assert.Equal(0xFF7Fu, (uint)_board.Ports.Read(PORTSC + 4, 2));
    }

    [Fact]
    public void A_descriptor_comes_through_a_queue_and_interrupts()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x100, 0, 18), 18);
        Assert.Equal(0u, Control(0) & Active);
        Assert.Equal(17u, Control(1) & 0x7FF);
        Assert.Equal([18, 1, 0, 2, 0, 0, 0, 8, 0x27, 6], _board.Bytes(Buffers + 0x100, 10));
        Assert.Equal(1, Status);
        Assert.True(_board.Interrupt);
        Assert.Equal(Terminate, _board.Word(Queue + 4));
        _board.Ports.Write(USBSTS, 2, 1);
        Assert.False(_board.Interrupt);
    }

    [Fact]
    public void A_short_packet_stops_the_queue_where_asked()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x100, 0, 64), 64);
        Assert.Equal(17u, Control(1) & 0x7FF);
        Assert.Equal((uint)Descriptors + 32, _board.Word(Queue + 4) & ~15u); // the element stays
        Assert.Equal(Active, Control(2) & Active);
        Assert.Equal(1, Status);
    }

    [Fact]
    public void A_key_ends_the_waiting_of_an_interrupt_packet_at_once()
    {
        Configure();
        Put(0, In, 8, Ioc, 3, 1, last: true);
        Submit();
        _board.Run(500);                                           // quiet: frames go together now
        Assert.Equal(Active | Nak, Control(0) & (Active | Nak));
        Keyboard.Key(KeyCode.A, true);
        _board.Run(1);
        Assert.Equal(0u, Control(0) & Active);
        Assert.Equal([0, 0, 4, 0, 0, 0, 0, 0], _board.Bytes(Buffers, 8));
        Assert.True(_board.Interrupt);
    }

    [Fact]
    public void A_quiet_schedule_wakes_the_host_sixteen_times_as_rarely_and_frames_go_on()
    {
        Configure();
        Put(0, In, 8, Ioc, 3, 1, last: true);
        Submit();
        _board.Run(200);
        ulong frame = _board.Ports.Read(FRNUM, 2);
        for (ulong i = 1; i <= 40; i++)
        {
            _board.Run(1);
            Assert.Equal(frame + i & 0x7FF, _board.Ports.Read(FRNUM, 2));
        }
        // what the guest adds meanwhile is found, if a little late
        Put(0, SetupPid, 8, address: 3);
        _board.Memory.Write(Buffers, UsbBoard.Setup(0x80, 8, 0, 0, 1));
        Put(1, In, 1, Ioc, 3, last: true);
        Submit();
        _board.Run(16);
        Assert.Equal(0u, Control(1) & Active);
        Assert.Equal([1], _board.Bytes(Buffers + 0x100, 1));
    }

    [Fact]
    public void Nothing_answers_at_a_wrong_address_and_a_stall_is_one()
    {
        Start();
        Transfer(9, UsbBoard.Setup(0x80, 6, 0x100, 0, 18), 18);
        Assert.Equal(Stalled | Timeout, Control(0) & (Active | Stalled | Timeout));
        Assert.Equal(2, Status & 2);
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x900, 0, 18), 18);
        Assert.Equal(0u, Control(0) & (Active | Stalled));
        Assert.Equal(Stalled, Control(1) & (Active | Stalled | Timeout));
    }

    [Fact]
    public void An_inactive_descriptor_interrupts_too_where_it_says_so()
    {
        Start();
        _board.Words(Descriptors, Terminate, Ioc, 0x69, 0);
        Submit();
        _board.Run(1);
        Assert.Equal(1, Status);
    }

    [Fact]
    public void A_suspended_bus_resumes_for_a_key_where_the_device_may()
    {
        Configure();
        _board.Ports.Write(USBCMD, 2, 0);
        _board.Ports.Write(USBCMD, 2, 8);                          // enter global suspend
        Keyboard.Key(KeyCode.A, true);
        Assert.Equal(0, Status & 4);
        _board.Ports.Write(USBCMD, 2, 1);
        Transfer(3, UsbBoard.Setup(0, 3, 1, 0, 0), 0);             // remote wake-up
        _board.Ports.Write(USBCMD, 2, 8);
        _board.Ports.Write(USBSTS, 2, 0x1F);
        Keyboard.Key(KeyCode.A, false);
        Assert.Equal(4, Status & 4);
        Assert.True(_board.Interrupt);
        Assert.Equal(0x18u, (uint)_board.Ports.Read(USBCMD, 2) & 0x18);
    }

    [Fact]
    public void A_device_that_leaves_or_comes_is_seen()
    {
        Start();
        _board.Sites[0].Dispose();
        Assert.Equal(0x8A, Port & 0xFF);                           // changed, enable changed
        _board.Ports.Write(PORTSC, 2, 10);
        _board.Plug(UsbPointer.Tablet, ("port", "1"));
        Assert.Equal(0x93, Port & 0xFF);
    }

    [Fact]
    public void State_survives_a_transfer_that_waits()
    {
        Configure();
        Put(0, In, 8, Ioc, 3, 1, last: true);
        Submit();
        _board.Run(5);
        _board.GoesOnElsewhere(Uhci.Piix3, Buffers);
    }

    // Hostile drivers

    [Theory]
    [InlineData(0)] [InlineData(1)] [InlineData(2)] [InlineData(3)]
    public void Circles_of_queues_and_descriptors_end(int kind)
    {
        Start();
        switch (kind)
        {
            case 0: _board.Words(Queue, (uint)Queue | IsQueue, Terminate); break;
            case 1: _board.Words(Queue, Terminate, (uint)Queue | IsQueue); break;
            case 2:                                                // a finished descriptor that leads to itself
                for (ulong i = 0; i < 1024; i++) _board.Words(Frames + i * 4, (uint)Descriptors);
                _board.Words(Descriptors, (uint)Descriptors, Ioc, In, 0);
                break;
            default:                                               // a hundred thousand queues, each behind the last
                for (uint i = 0; i < 100_000; i++)
                    _board.Words(0x10_0000 + i * 16, (0x10_0000 + (i + 1) % 100_000 * 16) | IsQueue, Terminate);
                _board.Words(Queue, 0x10_0000 | IsQueue, Terminate);
                break;
        }
        _board.Run(3000);
        Assert.Equal(0, Status & 0x38);
    }

    [Fact]
    public void Active_descriptors_in_a_circle_move_no_more_than_a_frame_holds()
    {
        Configure();
        // setup packets for ever: each leads to itself and is active again by the next frame
        Put(0, SetupPid, 8, address: 3);
        for (ulong i = 0; i < 1024; i++) _board.Words(Frames + i * 4, (uint)Descriptors);
        _board.Words(Descriptors, (uint)Descriptors);
        _board.Run(100);
        Assert.Equal(0u, Control(0) & Active);
    }

    [Theory]
    [InlineData((byte)0x55, 8, 0x10)]                              // no such token
    [InlineData(In, 0x600, 0x10)]                                  // longer than a packet can be
    public void A_descriptor_without_sense_stops_the_controller(byte pid, int length, int status)
    {
        Start();
        Put(0, pid, length, last: true);
        Submit();
        _board.Run(1);
        Assert.Equal(status | 0x20, Status);
        Assert.Equal(0u, (uint)_board.Ports.Read(USBCMD, 2) & 1);
        Assert.True(_board.Interrupt);
    }

    [Theory]
    [InlineData(TestMemory.IoAddress)] [InlineData(TestMemory.HoleAddress)] [InlineData(TestMemory.RomAddress)]
    public void Data_for_what_is_no_memory_stop_the_controller(ulong address)
    {
        Start();
        _board.Memory.Write(Buffers, UsbBoard.Setup(0x80, 6, 0x100, 0, 18));
        Put(0, SetupPid, 8);
        Put(1, In, 18, last: true);
        _board.Words(Descriptors + 32 + 12, (uint)address);
        Submit();
        _board.Run(2);
        Assert.Equal(8, Status & 8);
        Assert.Equal(0, _board.Pci.Memory.Registers.Accesses);
    }

    [Fact]
    public void A_setup_beyond_all_buffers_is_answered_with_a_stall()
    {
        Start();
        _board.Memory.Write(Buffers, UsbBoard.Setup(0x21, 9, 0x200, 0, 0xFFFF));
        Put(0, SetupPid, 8);
        Put(1, Out, 64, last: true);
        Submit();
        _board.Run(2);
        Assert.Equal(Stalled, Control(1) & (Active | Stalled));
    }
}
