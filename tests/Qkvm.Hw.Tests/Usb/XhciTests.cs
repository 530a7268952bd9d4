using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Usb;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Usb;

/// <summary>xHCI 1.2; offsets and numbers are restated here.</summary>
public sealed class XhciTests : IDisposable
{
    const ulong Bar = 0xC000_0000, Operational = Bar + 0x40, Ports = Operational + 0x400, Runtime = Bar + 0x1000,
        Doorbells = Bar + 0x2000;
    const ulong Commands = 0x10000, Events = 0x20000, Table = 0x21000, Array = 0x22000, Input = 0x23000,
        Context = 0x24000, Control = 0x30000, BulkIn = 0x40000, BulkOut = 0x50000, Data = 0x100000;
    const int EventSlots = 64;
    const uint Running = 1, Stopped = 3, Halted = 2;

    readonly PciBench _bench = new();
    readonly Xhci _controller;
    readonly EchoDevice _device = new();
    ulong _command = Commands, _event = Events;
    uint _eventCycle = 1;
    readonly Dictionary<ulong, ulong> _tails = [];

    public XhciTests()
    {
        _controller = _bench.Plug(new Xhci("xhci", new XhciOptions(new PciIdentity(0x1B36, 0xD, 0x0C0330, 1)),
            _bench.Clock), 3);
        _bench.Bus.WriteConfig(_controller.DevFn, 0x10, 4, (uint)Bar);
        Start();
    }

    public void Dispose() => _bench.Dispose();

    AddressSpace Memory => _bench.Memory.Space;

    [Fact]
    public void The_capabilities_tell_of_ports_slots_and_interrupters()
    {
        Assert.Equal(0x01000040u, Memory.Read(Bar, 4));
        Assert.Equal(0x08001040u, Memory.Read(Bar + 4, 4));
        Assert.Equal(0x03000402u, Memory.Read(Bar + 0x20, 4));
        Assert.Equal(0x20425355u, Memory.Read(Bar + 0x34, 4));
        Assert.Equal(0x0405u, Memory.Read(Bar + 0x38, 4));         // USB 2: four ports from 5 on
    }

    [Theory]
    [InlineData(UsbSpeeds.Super, 0, 0x1203u)]                      // connected, enabled, powered, speed 4
    [InlineData(UsbSpeeds.High, 4, 0x0EE1u)]                       // connected, powered, polling, speed 3
    public void A_device_appears_at_the_port_of_its_speed(UsbSpeeds speeds, int register, uint status)
    {
        _controller.Ports[0].Attach(new EchoDevice(speeds));
        Assert.Equal((34u, (ulong)(register + 1) << 24), (Next(out ulong parameter, out _), parameter));
        Assert.Equal(status | 1 << 17, (uint)Memory.Read(Ports + 16 * (ulong)register, 4));
        Memory.Write(Ports + 16 * (ulong)register, 4, 0x200 | 1 << 17 | 0x10);   // clears the change, resets the port
        Assert.Equal(34u, Next(out _, out _));
        Assert.Equal(3u | 0x200, (uint)Memory.Read(Ports + 16 * (ulong)register, 4) & 0x3FF);
        _controller.Ports[0].Detach();
        Assert.Equal(0x2A0u, (uint)Memory.Read(Ports + 16 * (ulong)register, 4) & 0x3FF);
    }

    [Fact]
    public void A_slot_is_enabled_addressed_and_configured_and_carries_data_both_ways()
    {
        Configure();
        Assert.Equal(1, _device.Address);
        Assert.Equal((uint)3 << 27 | 1, (uint)Memory.Read(Context + 12, 4));
        Fill(Data, 1000, 7);
        Put(BulkOut, Data, 1000, 1 << 10 | 0x20);
        Doorbell(1, 4);
        Assert.Equal((32u, 1u << 24), (Next(out ulong at, out uint status), status));
        Assert.Equal(BulkOut, at);
        Assert.Equal(1000, _device.Received.Count);
        _device.ToSend.AddRange(_device.Received);
        Put(BulkIn, Data + 0x1000, 600, 1 << 10 | 0x10);           // a chain of two blocks
        Put(BulkIn, Data + 0x2000, 600, 1 << 10 | 0x24);
        Doorbell(1, 3);
        Next(out at, out status);
        Assert.Equal((BulkIn + 16, 13u << 24 | 200), (at, status)); // a short packet, 200 bytes less
        Assert.Equal(_bench.Memory.Bytes(Data, 600), _bench.Memory.Bytes(Data + 0x1000, 600));
        Assert.Equal(_bench.Memory.Bytes(Data + 600, 400), _bench.Memory.Bytes(Data + 0x2000, 400));
    }

    [Fact]
    public void A_control_transfer_gets_a_descriptor()
    {
        Configure();
        Put(Control, 0x0012_0000_0100_0680, 8, 2 << 10 | 0x40 | 3 << 16);
        Put(Control, Data, 18, 3 << 10 | 1 << 16);
        Put(Control, 0, 0, 4 << 10 | 0x20);
        Doorbell(1, 1);
        Next(out ulong at, out uint status);
        Assert.Equal((Control + 32, 1u << 24), (at, status));
        Assert.Equal(0x0112u, Memory.Read(Data, 2));
    }

    [Fact]
    public void A_device_that_has_nothing_yet_is_asked_again_when_it_wakes()
    {
        Configure();
        Put(BulkIn, Data, 64, 1 << 10 | 0x20);
        Doorbell(1, 3);
        Assert.Equal(0u, Next(out _, out _));
        _device.ToSend.AddRange([1, 2, 3]);
        _device.WakeHost();
        Assert.Equal(32u, Next(out _, out uint status));
        Assert.Equal(13u << 24 | 61, status);
    }

    [Fact]
    public void A_stall_halts_an_endpoint_until_it_is_reset_and_moved()
    {
        Configure();
        _device.Stalls = true;
        Put(BulkOut, Data, 8, 1 << 10 | 0x20);
        Doorbell(1, 4);
        Next(out _, out uint status);
        Assert.Equal((6u, Halted), (status >> 24, State(4)));
        Assert.Equal(1, Command(0, 14 << 10 | 4 << 16 | 1 << 24));
        Assert.Equal(Stopped, State(4));
        Assert.Equal(1, Command(BulkOut + 16 | 1, 16 << 10 | 4 << 16 | 1 << 24));
        _device.Stalls = false;
        _device.ClearHalts();
        Put(BulkOut, Data, 8, 1 << 10 | 0x20);
        Doorbell(1, 4);
        Next(out _, out status);
        Assert.Equal((1u, Running), (status >> 24, State(4)));
    }

    [Fact]
    public void An_endpoint_is_stopped_and_goes_on_with_a_doorbell()
    {
        Configure();
        Assert.Equal(1, Command(0, 15 << 10 | 4 << 16 | 1 << 24));
        Assert.Equal(19, Command(0, 15 << 10 | 4 << 16 | 1 << 24));
        Put(BulkOut, Data, 8, 1 << 10 | 0x20);
        Doorbell(1, 4);
        Assert.Equal(32u, Next(out _, out _));
    }

    [Fact]
    public void A_message_tells_of_events_once_until_the_driver_has_seen_them()
    {
        Memory.Write(Bar + 0x3000, 8, 0xFEE00000);
        Memory.Write(Bar + 0x3008, 8, 0x41);
        int capability = _controller.Config[PciConfig.CapabilityPointer];
        while (_controller.Config[capability] != 0x11) capability = _controller.Config[capability + 1];
        _bench.Bus.WriteConfig(_controller.DevFn, capability + 2, 2, 0x8000);
        Memory.Write(Runtime + 0x20, 4, 2);
        Command(0, 23 << 10);
        Command(0, 23 << 10);
        Assert.Equal((0xFEE00000ul, 0x41u), Assert.Single(_bench.Messages));
        Memory.Write(Runtime + 0x38, 4, _event | 8);
        Command(0, 23 << 10);
        Assert.Equal(2, _bench.Messages.Count);
    }

    // Hostile drivers

    [Theory]
    [InlineData(Commands), InlineData(TestMemory.IoAddress), InlineData(TestMemory.HoleAddress)]
    public void A_ring_of_links_alone_or_outside_memory_ends_the_controller(ulong target)
    {
        Memory.Write(_command, 8, target);
        Memory.Write(_command + 12, 4, 6 << 10 | 1);
        Doorbell(0, 0);
        Assert.Equal(0x1000u, Memory.Read(Operational + 4, 4) & 0x1000);
        Assert.Equal(0, _bench.Memory.Registers.Accesses);
        Memory.Write(Operational, 4, 2);                           // HCRST
        Assert.Equal(1u, Memory.Read(Operational + 4, 4));
    }

    [Theory]
    [InlineData(BulkOut), InlineData(TestMemory.HoleAddress)]
    public void A_transfer_ring_of_links_breaks_its_endpoint_alone(ulong target)
    {
        Configure();
        Memory.Write(BulkOut, 8, target);
        Memory.Write(BulkOut + 12, 4, 6 << 10 | 1);
        Doorbell(1, 4);
        Assert.Equal(32u, Next(out _, out uint status));
        Assert.Equal((5u, 4u), (status >> 24, State(4)));
        Assert.Equal(1, Command(0, 23 << 10));
    }

    [Theory]
    [InlineData(1025, 8), InlineData(200, 0x1FFFF)]
    public void A_transfer_of_too_many_blocks_or_bytes_is_none(int blocks, int length)
    {
        Configure();
        for (int i = 0; i < blocks; i++) Put(BulkOut, Data, (uint)length, 1 << 10 | 0x10);
        Doorbell(1, 4);
        Assert.Equal(32u, Next(out _, out uint status));
        Assert.Equal((5u, 0), (status >> 24, _device.Received.Count));
    }

    [Fact]
    public void A_buffer_that_is_no_memory_is_an_error_of_the_bus()
    {
        Configure();
        Put(BulkOut, TestMemory.IoAddress, 64, 1 << 10 | 0x20);
        Doorbell(1, 4);
        Next(out _, out uint status);
        Assert.Equal((4u, 0), (status >> 24, _bench.Memory.Registers.Accesses));
    }

    [Fact]
    public void An_event_ring_that_overflows_says_so_and_loses_the_rest()
    {
        for (int i = 0; i < 3 * EventSlots; i++)
        {
            AddCommand(0, 23 << 10);
            Doorbell(0, 0);
        }
        uint full = (uint)Memory.Read(Events + 16 * (EventSlots - 2) + 8, 4);
        Assert.Equal(21u, full >> 24);
        Assert.Equal(0u, Memory.Read(Events + 16 * (EventSlots - 1), 8));
    }

    [Theory]
    [InlineData(0, 11, 0), InlineData(1, 11, 11), InlineData(65, 5, 11), InlineData(255, 5, 15)]
    public void Commands_for_slots_that_are_none_fail(byte slot, int code, uint type)
    {
        if (slot == 0) Assert.Equal(5, Command(0, 63u << 10));
        else Assert.Equal(code, Command(Input, type << 10 | (uint)slot << 24));
    }

    [Theory]
    [InlineData(TestMemory.HoleAddress, Context, 1u, 5)]           // no input context
    [InlineData(Input, TestMemory.HoleAddress, 1u, 5)]             // a device context that is no memory
    [InlineData(Input, 0ul, 1u, 5)]
    [InlineData(Input, Context, 0u, 4)]                            // no such root port
    [InlineData(Input, Context, 255u, 4)]
    [InlineData(Input, Context, 2u, 4)]                            // where nobody is
    public void A_bad_context_addresses_nobody(ulong input, ulong context, uint port, int code)
    {
        _controller.Ports[0].Attach(_device);
        Next(out _, out _);
        Assert.Equal(1, Command(0, 9 << 10));
        InputContext(3, port);
        Memory.Write(Array + 8, 8, context);
        Assert.Equal(code, Command(input, 11 << 10 | 1 << 24));
    }

    [Fact]
    public void Endpoints_that_are_none_are_refused()
    {
        Configure();
        Assert.Equal(5, Command(0, 15 << 10 | 1 << 24));
        Assert.Equal(12, Command(0, 15 << 10 | 31 << 16 | 1 << 24));
        for (uint i = 0; i < 256; i++) Doorbell(1, i);
        Doorbell(64, 3);
        Assert.Equal(1, Command(0, 23 << 10));
    }

    [Fact]
    public void Commands_without_end_leave_others_their_turn()
    {
        const int many = 300;
        Memory.Write(Runtime + 0x38, 4, Events);
        for (int i = 0; i < many; i++) AddCommand(0, 23 << 10);
        ulong end = _command;
        Doorbell(0, 0);
        _bench.Clock.Advance(1);
        _bench.Clock.Advance(1);
        AddCommand(0, 9 << 10);
        Memory.Write(Runtime + 0x38, 4, Events + 16 * (EventSlots - 1) | 8);
        Doorbell(0, 0);
        Assert.Equal(end + 16, _command);
        Assert.Equal(0u, Memory.Read(Operational + 4, 4) & 0x1004);
    }

    [Fact]
    public void A_device_that_leaves_fails_its_transfers()
    {
        Configure();
        _controller.Ports[0].Detach();
        Next(out _, out _);
        Put(BulkOut, Data, 8, 1 << 10 | 0x20);
        Doorbell(1, 4);
        Next(out _, out uint status);
        Assert.Equal((4u, Halted), (status >> 24, State(4)));
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it()
    {
        Configure();
        Put(BulkIn, Data, 64, 1 << 10 | 0x20);
        Doorbell(1, 3);
        var other = new Xhci("xhci", new XhciOptions(new PciIdentity(0x1B36, 0xD, 0x0C0330, 1)), _bench.Clock);
        _bench.Plug(other, 4);
        other.Ports[0].Restore(new EchoDevice());
        StateAssert.SurvivesSaveAndLoad(_controller, other);
        _controller.Ports[0].Detach();
        var fresh = new Xhci("xhci", new XhciOptions(new PciIdentity(0x1B36, 0xD, 0x0C0330, 1)), _bench.Clock);
        _bench.Plug(fresh, 5).Reset();
        StateAssert.ResetEqualsNew(_controller, fresh);
    }

    void Start()
    {
        Memory.Write(Operational + 0x38, 4, 64);
        Memory.Write(Operational + 0x30, 8, Array);
        Memory.Write(Operational + 0x18, 8, Commands | 1);
        Memory.Write(Table, 8, Events);
        Memory.Write(Table + 8, 4, EventSlots);
        Memory.Write(Runtime + 0x28, 4, 1);
        Memory.Write(Runtime + 0x38, 8, Events);
        Memory.Write(Runtime + 0x30, 8, Table);
        Memory.Write(Operational, 4, 5);
    }

    /// <summary>A super speed device at port 1, in slot 1: bulk in is DCI 3, bulk out 4.</summary>
    void Configure()
    {
        _controller.Ports[0].Attach(_device);
        Next(out _, out _);
        Assert.Equal(1, Command(0, 9 << 10));
        Memory.Write(Array + 8, 8, Context);
        InputContext(3, 1);
        Endpoint(1, 4, Control);
        Assert.Equal(1, Command(Input, 11 << 10 | 1 << 24));
        _device.Choose();
        InputContext(0x19, 1);
        Endpoint(3, 6, BulkIn);
        Endpoint(4, 2, BulkOut);
        Assert.Equal(1, Command(Input, 12 << 10 | 1 << 24));
    }

    void InputContext(uint add, uint port)
    {
        Memory.Write(Input, 4, 0);
        Memory.Write(Input + 4, 4, add);
        Memory.Write(Input + 32, 4, 4u << 27 | 4 << 20);
        Memory.Write(Input + 36, 4, port << 16);
    }

    void Endpoint(int index, uint kind, ulong ring)
    {
        ulong at = Input + 32 + 32 * (ulong)index;
        Memory.Write(at + 4, 4, 1024u << 16 | kind << 3);
        Memory.Write(at + 8, 8, ring | 1);
    }

    uint State(int index) => (uint)Memory.Read(Context + 32 * (ulong)index, 4) & 7;

    void Fill(ulong at, int count, byte step)
    {
        for (int i = 0; i < count; i++) Memory.Write(at + (ulong)i, 1, (byte)(i * step));
    }

    void Put(ulong ring, ulong parameter, uint status, uint control)
    {
        ulong at = _tails.GetValueOrDefault(ring, ring);
        _tails[ring] = at + 16;
        Memory.Write(at, 8, parameter);
        Memory.Write(at + 8, 4, status);
        Memory.Write(at + 12, 4, control | 1);
    }

    void Doorbell(uint slot, uint value) => Memory.Write(Doorbells + 4 * (ulong)slot, 4, value);

    void AddCommand(ulong parameter, uint control)
    {
        Memory.Write(_command, 8, parameter);
        Memory.Write(_command + 8, 4, 0);
        Memory.Write(_command + 12, 4, control | 1);
        _command += 16;
    }

    /// <summary>Runs a command; returns its completion code.</summary>
    int Command(ulong parameter, uint control)
    {
        ulong at = _command;
        AddCommand(parameter, control);
        Doorbell(0, 0);
        Assert.Equal(33u, Next(out ulong about, out uint status));
        Assert.Equal(at, about);
        return (int)(status >> 24);
    }

    /// <summary>The next event's type; 0: there is none.</summary>
    uint Next(out ulong parameter, out uint status)
    {
        (parameter, status) = (Memory.Read(_event, 8), (uint)Memory.Read(_event + 8, 4));
        uint control = (uint)Memory.Read(_event + 12, 4);
        if ((control & 1) != _eventCycle) return 0;
        _event += 16;
        if (_event == Events + 16 * EventSlots) (_event, _eventCycle) = (Events, _eventCycle ^ 1);
        Memory.Write(Runtime + 0x38, 4, _event);
        return control >> 10 & 0x3F;
    }

    /// <summary>Takes what comes on one endpoint, and gives what a test put into it on the other.</summary>
    sealed class EchoDevice(UsbSpeeds speeds = UsbSpeeds.Super)
        : UsbDevice("echo", Describe(speeds), FakeBoard.Defaults(UsbStorage.Model))
    {
        public List<byte> Received { get; } = [];
        public List<byte> ToSend { get; } = [];
        public bool Stalls { get; set; }

        static UsbDescription Describe(UsbSpeeds speeds)
        {
            var layout = new UsbLayout(0x0300, 9, new UsbConfiguration(1, 0x80, 0, new UsbInterface(0, 0xFF, 0, 0,
                new UsbEndpoint(0x81, UsbTransfer.Bulk, 1024), new UsbEndpoint(2, UsbTransfer.Bulk, 1024))));
            return new UsbDescription(1, 2, 3, "maker", "product", "serial")
                { Super = speeds == UsbSpeeds.Super ? layout : null, High = speeds == UsbSpeeds.High ? layout : null };
        }

        public void WakeHost() => Wake(0x81);
        public void Choose() => Send([0, 9, 1, 0, 0, 0, 0, 0]);
        public void ClearHalts() => Send([2, 1, 0, 0, 2, 0, 0, 0]);

        void Send(byte[] setup)
        {
            var packet = new UsbPacket(_ => { });
            packet.Begin(UsbToken.Setup, 0);
            packet.Add(setup);
            Handle(packet);
            packet.Begin(UsbToken.In, 0);
            Assert.Equal(UsbStatus.Success, Handle(packet));
        }

        protected override UsbStatus Transfer(UsbPacket packet)
        {
            if (Stalls) return UsbStatus.Stall;
            if (packet.Token == UsbToken.In)
            {
                if (ToSend.Count == 0) return UsbStatus.Nak;
                ToSend.RemoveRange(0, packet.Put(ToSend.ToArray()));
                return UsbStatus.Success;
            }
            byte[] data = new byte[packet.Length];
            packet.Take(data);
            Received.AddRange(data);
            return UsbStatus.Success;
        }

        protected override void ExchangeDevice(StateStream state) { }
    }
}
