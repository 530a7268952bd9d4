using Qkvm.Core.Devices;
using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>EHCI 1.0 as a driver sees it, with a keyboard on port 1; then as a hostile driver sees it.</summary>
public sealed class EhciTests : IDisposable
{
    const ulong Registers = UsbBoard.Mmio + 0x20, USBCMD = Registers, USBSTS = Registers + 4, USBINTR = Registers + 8,
        FRINDEX = Registers + 12, PERIODIC = Registers + 0x14, ASYNC = Registers + 0x18, CONFIGFLAG = Registers + 0x40,
        PORTSC = Registers + 0x44;
    const uint Queue = 0x4_0000, Descriptors = 0x2_0000, Buffers = 0x3_0000, Frames = 0x1_0000;
    const uint Terminate = 1, IsQueue = 2, Active = 0x80, Halted = 0x40, Xact = 8, Ioc = 1 << 15, High = 2 << 12;
    const int Out = 0, In = 1, Setup = 2;

    readonly UsbBoard _board = new(Ehci.Models[0], UsbKeyboard.Model);

    UsbKeyboard Keyboard => _board.Keyboard;
    uint Status => _board.Word(USBSTS);
    uint Port => _board.Word(PORTSC);

    public void Dispose() => _board.Dispose();

    void Start(uint schedules = 0x20)
    {
        _board.Words(CONFIGFLAG, 1);
        _board.Words(PORTSC, 0x1100);
        _board.Words(PORTSC, 0x1002);
        PutQueue(Queue, 0, 0, Queue | IsQueue, isHead: true);
        for (uint i = 0; i < 1024; i++) _board.Words(Frames + i * 4, Terminate);
        _board.Words(ASYNC, Queue);
        _board.Words(PERIODIC, Frames);
        _board.Words(USBINTR, 0x3F);
        _board.Words(USBCMD, 1 | schedules);
    }

    void PutQueue(uint at, byte address, int endpoint, uint link, bool isHead = false) =>
        _board.Words(at, link, address | (uint)endpoint << 8 | High | 1 << 14 | (isHead ? 1u << 15 : 0) | 64 << 16,
            1u << 30, 0, Terminate, Terminate, 0, 0, 0, 0, 0, 0);

    static uint At(int index) => Descriptors + (uint)index * 64;

    void Put(int index, int pid, int length, uint flags = 0, bool last = false, uint alternate = Terminate) =>
        _board.Words(At(index), last ? Terminate : At(index + 1), alternate,
            Active | flags | (uint)pid << 8 | 3 << 10 | (uint)length << 16, Buffers + (uint)index * 0x1000,
            Buffers + (uint)(index + 1) * 0x1000, 0, 0, 0);

    uint Token(int index) => _board.Word(At(index) + 8);

    void Transfer(byte address, byte[] setup, int room)
    {
        PutQueue(Queue, address, 0, Queue | IsQueue, isHead: true);
        _board.Memory.Write(Buffers, setup);
        Put(0, Setup, 8);
        if (room > 0) Put(1, In, room, alternate: At(2));
        Put(room > 0 ? 2 : 1, room > 0 ? Out : In, 0, Ioc, last: true);
        _board.Words(Queue + 16, At(0));
        _board.Run(2);
    }

    void Configure()
    {
        Start(0x30);
        Transfer(0, UsbBoard.Setup(0, 5, 3, 0, 0), 0);
        Transfer(3, UsbBoard.Setup(0, 9, 1, 0, 0), 0);
        _board.Words(USBSTS, 0x3F);
    }

    [Fact]
    public void A_port_trains_a_high_speed_device_by_a_reset()
    {
        Assert.Equal(0x1003u, Port);
        Assert.Equal(0x1004u, Status);
        _board.Words(PORTSC, 0x1102);
        Assert.Equal(0x1101u, Port);
        _board.Words(PORTSC, 0x1000);
        Assert.Equal(0x1005u, Port);
        Assert.Equal(UsbSpeed.High, Keyboard.Speed);
        Assert.Equal(0x0100_0020u, _board.Word(UsbBoard.Mmio));
        Assert.Equal(6u, _board.Word(UsbBoard.Mmio + 4));
    }

    [Fact]
    public void A_control_transfer_goes_through_a_queue_head()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x100, 0, 64), 64);
        Assert.Equal(0u, Token(0) & 0xFF);
        Assert.Equal((64u - 18) << 16, Token(1) & 0x7FFF_00FF);
        Assert.Equal(0u, Token(2) & 0xFF);                         // by the alternate link
        Assert.Equal([18, 1, 0, 2, 0, 0, 0, 64, 0x27, 6], _board.Bytes(Buffers + 0x1000, 10));
        Assert.Equal(1u, Status & 3);
        Assert.True(_board.Interrupt);
        _board.Words(USBSTS, 0x3F);
        Assert.False(_board.Interrupt);
    }

    [Fact]
    public void A_key_comes_through_the_periodic_schedule_at_once()
    {
        Configure();
        PutQueue(Queue + 0x100, 3, 1, Terminate);
        _board.Words(Queue + 0x108, 1u << 30 | 1);
        Put(0, In, 8, Ioc, last: true);
        _board.Words(Queue + 0x110, At(0));
        for (uint i = 0; i < 1024; i += 8) _board.Words(Frames + i * 4, (Queue + 0x100) | IsQueue);
        _board.Run(500);
        Assert.Equal(Active, Token(0) & 0xFF);
        Keyboard.Key(KeyCode.A, true);
        _board.Run(8);
        Assert.Equal(0u, Token(0) & 0xFF);
        Assert.Equal([0, 0, 4, 0, 0, 0, 0, 0], _board.Bytes(Buffers, 8));
        Assert.Equal(1u, Status & 1);
    }

    [Fact]
    public void Frames_are_counted_in_microframes()
    {
        Start();
        uint before = _board.Word(FRINDEX);
        _board.Clock.Advance(300 * UsbBoard.Millisecond + 250_000);
        Assert.Equal(before + 2402 & 0x3FFF, _board.Word(FRINDEX));
        _board.Run(1024);
        Assert.Equal(8u, Status & 8);                              // it rolled over
    }

    [Fact]
    public void The_doorbell_is_answered()
    {
        Start();
        _board.Words(USBCMD, 0x61);
        Assert.Equal(0x20u, Status & 0x20);
        Assert.Equal(0u, _board.Word(USBCMD) & 0x40);
    }

    [Fact]
    public void A_stall_and_a_silence_halt_the_queue()
    {
        Start();
        Transfer(0, UsbBoard.Setup(0x80, 6, 0x900, 0, 18), 18);
        Assert.Equal(Halted, Token(1) & 0xFF);
        Assert.Equal(Halted, _board.Word(Queue + 24) & 0xFF);
        Assert.Equal(2u, Status & 2);
        Transfer(9, UsbBoard.Setup(0x80, 6, 0x100, 0, 18), 18);
        Assert.Equal(Halted | Xact, Token(0) & 0xFF);
    }

    [Fact]
    public void A_suspended_port_resumes_for_a_key_where_the_device_may()
    {
        Configure();
        Transfer(3, UsbBoard.Setup(0, 3, 1, 0, 0), 0);
        _board.Words(PORTSC, 0x1084);
        _board.Words(USBSTS, 0x3F);
        Assert.Equal(0x1085u, Port);
        Keyboard.Key(KeyCode.A, true);
        Assert.Equal(0x10C5u, Port);
        Assert.Equal(4u, Status & 4);
        _board.Words(PORTSC, 0x1084);                              // the driver ends resuming
        Assert.Equal(0x1005u, Port);
    }

    [Fact]
    public void Descriptors_hold_no_more_than_their_pages_and_data_cross_them()
    {
        Start();
        byte[] setup = UsbBoard.Setup(0x80, 6, 0x200, 0, 255);
        PutQueue(Queue, 0, 0, Queue | IsQueue, isHead: true);
        _board.Memory.Write(Buffers, setup);
        Put(0, Setup, 8);
        Put(1, In, 255, Ioc, last: true);
        _board.Words(At(1) + 12, Buffers + 0x1FF8, Buffers + 0x5000);
        _board.Words(Queue + 16, At(0));
        _board.Run(2);
        Assert.Equal([9, 2, 34, 0, 1, 1, 8, 0xA0], _board.Bytes(Buffers + 0x1FF8, 8));
        Assert.Equal([50, 9, 4, 0], _board.Bytes(Buffers + 0x5000, 4));
    }

    // Hostile drivers

    [Theory]
    [InlineData(0)] [InlineData(1)] [InlineData(2)] [InlineData(3)] [InlineData(4)]
    public void Circles_end(int kind)
    {
        Start(0x30);
        switch (kind)
        {
            case 0:                                                // a finished descriptor behind itself
                _board.Words(At(0), At(0), At(0), 0, 0);
                _board.Words(Queue + 16, At(0));
                break;
            case 1:                                                // an active one behind itself, each time anew
                Put(0, Setup, 8);
                _board.Words(At(0), At(0));
                _board.Words(Queue + 16, At(0));
                break;
            case 2:                                                // queues in the periodic list
                for (uint i = 0; i < 1024; i++) _board.Words(Frames + i * 4, Queue | IsQueue);
                break;
            case 3:                                                // isochronous ones, of 24 KiB each
                _board.Words(Buffers, Buffers);
                for (uint i = 0; i < 8; i++) _board.Words(Buffers + 4 + i * 4, 0x8FFF_0000 | 6 << 12);
                for (uint i = 0; i < 1024; i++) _board.Words(Frames + i * 4, Buffers);
                break;
            default:                                               // a circle that the head is not part of
                PutQueue(Queue, 0, 0, (Queue + 0x100) | IsQueue);
                for (uint i = 1; i <= 50; i++)
                    PutQueue(Queue + i * 0x100, 0, 0, (Queue + (i % 50 + 1) * 0x100) | IsQueue);
                break;
        }
        _board.Run(2500);
        Assert.Equal(0u, Status & 0x1010);
    }

    [Fact]
    public void A_transfer_longer_than_its_pages_is_cut()
    {
        Start();
        _board.Memory.Write(Buffers, UsbBoard.Setup(0x21, 9, 0x200, 0, 0xFFFF));
        PutQueue(Queue, 0, 0, Queue | IsQueue, isHead: true);
        Put(0, Setup, 8);
        Put(1, Out, 0x7FFF, Ioc, last: true);
        _board.Words(At(1) + 12, 0x1_0FFF, 0x1_0000, 0x1_0000, 0x1_0000, 0x1_0000);
        _board.Words(Queue + 16, At(0));
        _board.Run(2);
        Assert.Equal(Halted, Token(1) & 0xFF);
    }

    [Theory]
    [InlineData((uint)TestMemory.IoAddress)] [InlineData((uint)TestMemory.HoleAddress)]
    public void Structures_in_what_is_no_memory_stop_the_controller(uint address)
    {
        Start();
        _board.Words(USBCMD, 1);
        _board.Words(ASYNC, address);
        _board.Words(USBCMD, 0x21);
        _board.Run(2);
        Assert.Equal(0x1010u, Status & 0x1010);
        Assert.Equal(0, _board.Pci.Memory.Registers.Accesses);
    }

    [Fact]
    public void Companions_have_ports_until_the_driver_takes_them()
    {
        using var board = new UsbBoard(Ehci.Ich9, UsbKeyboard.Model);
        var companion = new UsbBench();
        UsbPort[] ports = [.. Enumerable.Range(0, 2).Select(i => new UsbPort(companion, i,
            UsbSpeeds.Low | UsbSpeeds.Full, $"{i + 1}"))];
        var ehci = (Ehci)board.Controller;
        ehci.Adopt(ports, 0, FakeBoard.Defaults(Uhci.Piix3));
        UsbKeyboard keyboard = board.Keyboard;
        Assert.Equal(UsbSpeed.Full, keyboard.Speed);
        Assert.Equal(0x2000u, board.Word(PORTSC) & 0x2005);
        Assert.Equal(0x1206u, board.Word(UsbBoard.Mmio + 4));
        board.Words(CONFIGFLAG, 1);
        Assert.Equal(UsbSpeed.High, keyboard.Speed);
        Assert.Equal(0x1003u, board.Word(PORTSC) & 0x3003);
        StateNode saved = StateNode.Save(ehci.Exchange);
        board.Words(PORTSC, 0x3000);                               // given away
        Assert.Same(keyboard, ports[0].Device);
        saved.Load(ehci.Exchange);
        Assert.Null(ports[0].Device);
        Assert.Equal(UsbSpeed.High, keyboard.Speed);
        Assert.Throws<ConfigurationException>(() => ehci.Adopt(ports, 5, FakeBoard.Defaults(Uhci.Piix3)));
        Assert.Throws<ConfigurationException>(() => ehci.Adopt(ports, 1, FakeBoard.Defaults(Uhci.Piix3)));
    }
}
