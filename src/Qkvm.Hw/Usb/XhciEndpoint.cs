using System.Buffers.Binary;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>An endpoint and its transfer ring: one transfer descriptor is under way at a time, as one packet. xHCI 1.2,
/// sections 4.8 to 4.11.</summary>
sealed class XhciEndpoint
{
    const int Turn = 128, MostBlocks = 1024, LongestTransfer = 16 << 20;   // of one descriptor

    readonly Xhci _controller;
    readonly XhciSlot _slot;
    readonly int _index;
    readonly ulong _context;
    readonly XhciRing _ring = new(), _ahead = new();
    readonly List<XhciTrb> _blocks = [];                           // not migrated: of what is under way
    readonly UsbPacket _packet;
    byte _state, _kind;                                            // _kind: EP Type, table 6-9

    public XhciEndpoint(Xhci controller, XhciSlot slot, int index, ulong context)
    {
        (_controller, _slot, _index, _context) = (controller, slot, index, context);
        _packet = new UsbPacket(packet =>
        {
            End(packet.Status);
            Run();
        });
    }

    bool IsControl => _kind == 4;
    bool IsIn => _kind > 4;

    /// <summary>The driver's context: the ring begins at its TR Dequeue Pointer; it is written back as
    /// running.</summary>
    public bool Start(uint[] context)
    {
        _kind = (byte)(context[1] >> 3 & 7);
        ulong dequeue = context[2] | (ulong)context[3] << 32;
        _ring.Start(dequeue & ~0xFul, (dequeue & 1) != 0);
        _state = EndpointRunning;
        context[0] = context[0] & ~7u | _state;
        return _kind != 0 && _slot.Write(_context, context);
    }

    /// <summary>A doorbell starts a stopped endpoint; a halted one stays so (section 4.8.3).</summary>
    public void Ring()
    {
        if (_state == EndpointStopped) WriteState(EndpointRunning);
        Run();
    }

    /// <summary>As much as the ring has and the device takes.</summary>
    public void Run()
    {
        for (int budget = Turn; budget > 0; budget--)
        {
            if (_state != EndpointRunning || _packet.IsPending || !_controller.IsRunning) return;
            if (!Collect(out bool isBroken))
            {
                if (isBroken) Break();
                return;
            }
            UsbStatus status = Begin();
            if (status is UsbStatus.Pending or UsbStatus.Nak) return;
            End(status);
        }
        _controller.GoOnSoon();
    }

    /// <summary>Reads the next descriptor, up to its end; the ring stays before it until it has ended.</summary>
    bool Collect(out bool isBroken)
    {
        _ahead.Start(_ring.Dequeue, _ring.CycleState);
        _blocks.Clear();
        long length = 0;
        while (_ahead.TryTake(_controller.Dma, out XhciTrb trb, out isBroken))
        {
            _blocks.Add(trb);
            if (trb.Type is Normal or DataStage or Isochronous) length += trb.Length;
            isBroken = _blocks.Count > MostBlocks || length > LongestTransfer
                || trb.Type is not (>= Normal and <= NoOp) || trb.Has(ImmediateData) && trb.Length > 8;
            if (isBroken) return false;
            if (!trb.Has(Chain)) return true;
        }
        return false;
    }

    UsbStatus Begin()
    {
        XhciTrb first = _blocks[0];
        UsbToken token = first.Type == SetupStage ? UsbToken.Setup
            : (IsControl ? first.Has(DirectionIn) : IsIn) ? UsbToken.In : UsbToken.Out;
        _packet.Begin(token, (byte)(_index / 2));
        if (_blocks.TrueForAll(static trb => trb.Type is NoOp or EventData)) return UsbStatus.Success;
        if (_slot.Device is not { } device) return UsbStatus.NoDevice;
        foreach (XhciTrb trb in _blocks)
            if (!Add(trb)) return UsbStatus.IoError;
        return device.Handle(_packet);
    }

    bool Add(in XhciTrb trb)
    {
        if (trb.Type is StatusStage or EventData or NoOp || trb.Length == 0) return true;
        if (!trb.Has(ImmediateData)) return _packet.TryAdd(_controller.Dma, trb.Parameter, (uint)trb.Length);
        var data = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, trb.Parameter);
        _packet.Add(data.AsMemory(0, trb.Length));
        return true;
    }

    /// <summary>The descriptor has ended: events, and on to the next or to a halt.</summary>
    void End(UsbStatus status)
    {
        byte code = status switch
        {
            UsbStatus.Success => Success,
            UsbStatus.Stall => StallError,
            UsbStatus.Babble => BabbleDetected,
            _ => TransactionError,
        };
        TellOf(code);
        _ring.Start(_ahead.Dequeue, _ahead.CycleState);
        if (code == Success) return;
        // The dequeue pointer stays at what failed; the driver moves it (section 4.10.2.1).
        _ring.Start(_blocks[0].Address, _blocks[0].Has(Cycle));
        WriteState(EndpointHalted);
    }

    /// <summary>Section 4.10: an event for each block that wants one, for the one where data ended early, or for the
    /// one that failed.</summary>
    void TellOf(byte code)
    {
        int left = _packet.Actual;
        uint moved = 0;
        bool wasShort = false, wasTold = false;
        for (int i = 0; i < _blocks.Count; i++)
        {
            XhciTrb trb = _blocks[i];
            int length = trb.Type is Normal or DataStage or Isochronous ? trb.Length : 0, part = Math.Min(length, left);
            left -= part;
            moved += (uint)part;
            bool isShort = code == Success && part < length;
            bool failsHere = code != Success && (left == 0 && part < length || i == _blocks.Count - 1);
            bool wants = trb.Has(InterruptOnCompletion) || isShort && !wasShort && trb.Has(InterruptOnShort);
            wasShort |= isShort;
            if (!wants && !failsHere || wasTold && trb.Type != EventData) continue;
            wasTold = wasShort;                                    // of a transfer that ended early once
            byte what = failsHere ? code : code != Success ? Success : wasShort ? ShortPacket : Success;
            if (trb.Type == EventData)
            {
                Tell(trb.Parameter, what, moved & 0xFFFFFF, IsEventData, trb);
                moved = 0;
            }
            else Tell(trb.Address, what, (uint)(length - part), 0, trb);
            if (failsHere) return;
        }
    }

    void Tell(ulong pointer, byte code, uint length, uint flags, in XhciTrb trb)
    {
        const uint blockEventInterrupt = 1 << 9;
        _controller.Tell((int)(trb.Status >> 22), new XhciTrb(pointer, length | CompletionCode(code),
            TransferEvent << 10 | flags | (uint)_index << 16 | (uint)_slot.Number << 24), trb.Has(blockEventInterrupt));
    }

    /// <summary>What is no descriptor: the endpoint is in error.</summary>
    void Break()
    {
        var where = new XhciTrb(0, 0, 0, _ring.Dequeue);
        Tell(_ring.Dequeue, TrbError, 0, 0, where);
        WriteState(EndpointError);
    }

    /// <summary>Reset Endpoint leaves a halt.</summary>
    public byte Leave(byte state)
    {
        if (_state != state) return ContextStateError;
        WriteState(EndpointStopped);
        return Success;
    }

    /// <summary>Section 4.6.9: what is under way ends as stopped.</summary>
    public byte Stop()
    {
        if (_state != EndpointRunning) return ContextStateError;
        if (_packet.IsPending)
        {
            _packet.Cancel();
            XhciTrb trb = _blocks[0];
            Tell(trb.Address, Stopped, (uint)trb.Length, 0, trb);
        }
        WriteState(EndpointStopped);
        return Success;
    }

    /// <summary>Section 4.6.10.</summary>
    public byte SetDequeue(ulong value)
    {
        if (_state is not (EndpointStopped or EndpointError)) return ContextStateError;
        _ring.Start(value & ~0xFul, (value & 1) != 0);
        WriteState(EndpointStopped);
        return Success;
    }

    /// <summary>Nobody hears of what is under way.</summary>
    public void Forget()
    {
        if (_packet.IsPending) _packet.Cancel();
    }

    public void WriteState(byte state)
    {
        _state = state;
        uint[] context = new uint[8];
        if (!_slot.Read(_context, context)) return;
        context[0] = context[0] & ~7u | state;
        context[2] = (uint)_ring.Dequeue | (_ring.CycleState ? 1u : 0);
        context[3] = (uint)(_ring.Dequeue >> 32);
        _slot.Write(_context, context);
    }

    public void Exchange(StateStream state)
    {
        state.Field("state", ref _state);
        state.Field("kind", ref _kind);
        _ring.Exchange(state.Group("ring"));
        if (_state > EndpointError) throw state.Refuse("state", $"{_state} is none");
        if (_kind > 7) throw state.Refuse("kind", $"{_kind} is none");
    }
}
