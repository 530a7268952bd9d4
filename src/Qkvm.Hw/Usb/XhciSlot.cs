using System.Buffers.Binary;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>A device slot: a device, and its endpoints by Device Context Index. xHCI 1.2, sections 4.5 and
/// 4.6.</summary>
sealed class XhciSlot
{
    const int Endpoints = 32, ContextSize = 32, MostDepth = 5;
    const ulong SlotContext = 32;                                  // in an input context, behind its control

    readonly Xhci _controller;
    readonly XhciEndpoint?[] _endpoints = new XhciEndpoint?[Endpoints];
    ulong _context;
    byte _state, _rootPort;
    uint _route;
    bool _isEnabled;

    public XhciSlot(Xhci controller, byte number) => (_controller, Number) = (controller, number);

    public byte Number { get; }
    public bool IsEnabled => _isEnabled;

    /// <summary>At the root port that the driver named, or below a hub there (section 8.9: four bits for each
    /// hub).</summary>
    public UsbDevice? Device
    {
        get
        {
            if (_controller.RootPort(_rootPort) is not { } root) return null;
            if (_route == 0) return root.Device;
            string path = root.Path;
            for (uint route = _route; route != 0; route >>= 4) path += $".{route & 15}";
            foreach (UsbPort port in _controller.UserBus?.Ports ?? [])
                if (port.Path == path) return port.Device;
            return null;
        }
    }

    public void Enable() => (_isEnabled, _state) = (true, SlotEnabled);

    public byte Disable()
    {
        for (int i = 0; i < Endpoints; i++) Remove(i);
        if (_isEnabled && _context != 0) WriteState(0);
        (_isEnabled, _context, _state, _rootPort, _route) = (false, 0, 0, 0, 0);
        return Success;
    }

    public void Ring(byte index)
    {
        if (_isEnabled && index < Endpoints) _endpoints[index]?.Ring();
    }

    public void GoOn()
    {
        foreach (XhciEndpoint? endpoint in _endpoints) endpoint?.Run();
    }

    public void Wake(byte address) => _endpoints[IndexOf(address)]?.Run();

    /// <summary>Section 4.6.5.</summary>
    public byte Address(ulong input, bool setsAddress, ulong context)
    {
        const uint slotAndControl = 3;
        uint[] control = new uint[8], slot = new uint[8], pipe = new uint[8];
        if (!Read(input, control) || !Read(input + SlotContext, slot) || !Read(input + 2 * ContextSize, pipe)
            || context == 0) return TrbError;
        if (control[0] != 0 || control[1] != slotAndControl) return TrbError;
        if (_state is not (SlotEnabled or SlotDefault) || _state == SlotDefault && !setsAddress)
            return ContextStateError;
        (_rootPort, _route, _context) = ((byte)(slot[1] >> 16), slot[0] & 0xFFFFF, context);
        if (Device is not { } device) return TransactionError;
        if (setsAddress && !SetAddress(device)) return TransactionError;
        slot[3] = slot[3] & ~0xFFu & ~(31u << 27);
        if (setsAddress) slot[3] |= Number;
        _state = setsAddress ? SlotAddressed : SlotDefault;
        slot[3] |= (uint)_state << 27;
        if (!Write(_context, slot)) return TrbError;
        return Add(1, pipe) ? Success : TrbError;
    }

    /// <summary>The controller makes this request itself.</summary>
    bool SetAddress(UsbDevice device)
    {
        var packet = new UsbPacket(static _ => { });
        packet.Begin(UsbToken.Setup, 0);
        packet.Add(new byte[] { 0, 5, Number, 0, 0, 0, 0, 0 });
        if (device.Handle(packet) != UsbStatus.Success) return false;
        packet.Begin(UsbToken.In, 0);
        return device.Handle(packet) == UsbStatus.Success;
    }

    /// <summary>Section 4.6.6: drops, then adds.</summary>
    public byte Configure(ulong input, bool isDeconfiguring)
    {
        if (_state < SlotAddressed) return ContextStateError;
        uint[] control = new uint[8], slot = new uint[8], pipe = new uint[8];
        if (!Read(_context, slot)) return TrbError;
        if (!isDeconfiguring)
        {
            if (!Read(input, control) || (control[0] & 3) != 0 || (control[1] & 3) != 1) return TrbError;
            uint[] wanted = new uint[8];
            if (!Read(input + SlotContext, wanted)) return TrbError;
            slot[0] = slot[0] & ~(31u << 27) | wanted[0] & 31u << 27;
        }
        for (int i = 2; i < Endpoints; i++)
        {
            if (isDeconfiguring || (control[0] >> i & 1) != 0) Remove(i);
            if ((control[1] >> i & 1) == 0) continue;
            Remove(i);
            if (!Read(input + SlotContext + (ulong)(i * ContextSize), pipe) || !Add(i, pipe)) return TrbError;
        }
        if (isDeconfiguring) slot[0] = slot[0] & ~(31u << 27) | 1u << 27;
        _state = isDeconfiguring ? SlotAddressed : SlotConfigured;
        slot[3] = slot[3] & ~(31u << 27) | (uint)_state << 27;
        return Write(_context, slot) ? Success : TrbError;
    }

    /// <summary>Section 4.6.7: exit latency, interrupter, and endpoint 0's largest packet.</summary>
    public byte Evaluate(ulong input)
    {
        if (_state < SlotDefault) return ContextStateError;
        uint[] control = new uint[8], slot = new uint[8], given = new uint[8];
        if (!Read(input, control) || control[0] != 0 || (control[1] & ~3u) != 0) return TrbError;
        if ((control[1] & 1) != 0)
        {
            if (!Read(_context, slot) || !Read(input + SlotContext, given)) return TrbError;
            slot[1] = slot[1] & ~0xFFFFu | given[1] & 0xFFFF;
            slot[2] = slot[2] & ~(0x3FFu << 22) | given[2] & 0x3FFu << 22;
            if (!Write(_context, slot)) return TrbError;
        }
        if ((control[1] & 2) == 0) return Success;
        ulong pipe = _context + ContextSize;
        if (!Read(pipe, slot) || !Read(input + 2 * ContextSize, given)) return TrbError;
        slot[1] = slot[1] & 0xFFFF | given[1] & 0xFFFF_0000;
        return Write(pipe, slot) ? Success : TrbError;
    }

    public byte ResetEndpoint(byte index) => Find(index, out XhciEndpoint? endpoint) ?? endpoint!.Leave(EndpointHalted);
    public byte StopEndpoint(byte index) => Find(index, out XhciEndpoint? endpoint) ?? endpoint!.Stop();
    public byte SetDequeue(byte index, ulong value) =>
        Find(index, out XhciEndpoint? endpoint) ?? endpoint!.SetDequeue(value);

    /// <summary>Section 4.6.11.</summary>
    public byte ResetDevice()
    {
        if (_state < SlotAddressed) return ContextStateError;
        for (int i = 2; i < Endpoints; i++) Remove(i);
        _state = SlotDefault;
        uint[] slot = new uint[8];
        if (!Read(_context, slot)) return TrbError;
        slot[0] = slot[0] & ~(31u << 27) | 1u << 27;
        slot[3] = (uint)_state << 27;
        return Write(_context, slot) ? Success : TrbError;
    }

    public void Exchange(StateStream state)
    {
        state.Field("enabled", ref _isEnabled);
        state.Field("context", ref _context);
        state.Field("state", ref _state);
        state.Field("root-port", ref _rootPort);
        state.Field("route", ref _route);
        if (_state > SlotConfigured) throw state.Refuse("state", $"{_state} is none");
        for (int i = 1; i < Endpoints; i++)
        {
            bool exists = _endpoints[i] != null;
            StateStream group = state.Group("endpoint", i);
            group.Field("exists", ref exists);
            if (state.IsLoading)
            {
                _endpoints[i]?.Forget();
                _endpoints[i] = exists ? new XhciEndpoint(_controller, this, i, ContextAt(i)) : null;
            }
            _endpoints[i]?.Exchange(group);
        }
    }

    byte? Find(byte index, out XhciEndpoint? endpoint)
    {
        endpoint = index is > 0 and < Endpoints ? _endpoints[index] : null;
        return index is 0 or >= Endpoints ? TrbError : endpoint == null ? EndpointNotEnabled : null;
    }

    ulong ContextAt(int index) => _context + (ulong)(index * ContextSize);

    bool Add(int index, uint[] context)
    {
        _endpoints[index]?.Forget();
        var endpoint = new XhciEndpoint(_controller, this, index, ContextAt(index));
        _endpoints[index] = endpoint;
        return endpoint.Start(context);
    }

    void Remove(int index)
    {
        if (_endpoints[index] is not { } endpoint) return;
        endpoint.Forget();
        endpoint.WriteState(EndpointDisabled);
        _endpoints[index] = null;
    }

    void WriteState(byte state)
    {
        uint[] slot = new uint[8];
        if (!Read(_context, slot)) return;
        slot[3] = (uint)state << 27;
        Write(_context, slot);
    }

    internal bool Read(ulong at, uint[] words)
    {
        Span<byte> raw = stackalloc byte[ContextSize];
        if (_controller.Dma is not { } dma || !dma.Read(at, raw)) return false;
        for (int i = 0; i < words.Length; i++) words[i] = BinaryPrimitives.ReadUInt32LittleEndian(raw[(4 * i)..]);
        return true;
    }

    internal bool Write(ulong at, uint[] words)
    {
        Span<byte> raw = stackalloc byte[ContextSize];
        for (int i = 0; i < words.Length; i++) BinaryPrimitives.WriteUInt32LittleEndian(raw[(4 * i)..], words[i]);
        return _controller.Dma is { } dma && dma.Write(at, raw);
    }

    /// <summary>Device Context Index of an endpoint's address: twice the number, and one for device to host.</summary>
    static int IndexOf(byte address) =>
        (address & 15) * 2 + ((address & UsbEndpoint.In) != 0 || (address & 15) == 0 ? 1 : 0);
}
