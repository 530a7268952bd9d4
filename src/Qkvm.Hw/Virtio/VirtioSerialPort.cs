using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>A port of <see cref="VirtioSerial"/>, between two queues of the guest and a character backend. Virtio 1.2,
/// section 5.3.6.</summary>
/// <remarks>A console has somebody at the host's end whenever it has a backend; of another port the guest is told when
/// the backend's client comes and goes. Nothing is written to a port that the guest has not opened.</remarks>
public sealed class VirtioSerialPort : IDevice, ICharFrontend
{
    // What one kick may bring to a backend that takes everything; others have their turn then.
    const uint MostAtOnce = 1 << 20;

    readonly ICharBackend? _backend;
    readonly Action<bool>? _guestOpened;
    VirtioSerial? _device;                                         // not migrated: where it is plugged
    bool _isReady;                                                 // PORT_READY: it wants to hear of this one
    bool _isGuestOpen, _isHostOpen;
    uint _sent;                                                    // bytes of the first waiting chain

    /// <param name="guestOpened">Hears when the guest opens and closes it.</param>
    public VirtioSerialPort(string name, bool isConsole, string? portName, ICharBackend? backend,
        Action<bool>? guestOpened = null)
    {
        (Name, IsConsole, PortName) = (name, isConsole, portName);
        (_backend, _guestOpened) = (backend, guestOpened);
        _isHostOpen = isConsole && backend != null;
    }

    public string Name { get; }
    public bool IsConsole { get; }

    /// <summary>"org.qemu.guest_agent.0", or null.</summary>
    public string? PortName { get; }

    public int Number { get; private set; }

    /// <summary>Somebody is at the host's end.</summary>
    public bool IsHostOpen => _isHostOpen;

    /// <summary>Of the terminal at the host's end, in characters; null where there is none.</summary>
    public (ushort Columns, ushort Rows)? WindowSize => _backend?.WindowSize;

    bool IsGuestOpen => _isGuestOpen || _device?.IsAlwaysOpen(this) == true;

    bool ICharFrontend.IsOpen => IsConsole || IsGuestOpen;

    internal void Plug(VirtioSerial device, int number)
    {
        (_device, Number) = (device, number);
        _backend?.Connect(this);
    }

    /// <summary>As large as the guest's next buffer.</summary>
    public int Room
    {
        get
        {
            if (!IsGuestOpen || _device?.ReceiveQueue(Number) is not { } queue) return 0;
            if (!queue.TryPop(out DescriptorChain? chain) && (!queue.EnableKicks() || !queue.TryPop(out chain)))
                return 0;
            uint room = chain.WritableLength;
            queue.Unpop(chain);
            if (room == 0) _device.Control.Fail($"queue {queue.Index}: a receive buffer that cannot be written");
            return (int)Math.Min(room, int.MaxValue);
        }
    }

    public void Receive(ReadOnlySpan<byte> data)
    {
        if (_device?.ReceiveQueue(Number) is not { } queue) return;
        while (data.Length > 0 && queue.TryPop(out DescriptorChain? chain))
        {
            int count = (int)Math.Min((uint)data.Length, chain.WritableLength);
            chain.Writable.Slice(0, count).CopyFrom(data[..count]);
            queue.Push(chain, (uint)count);
            data = data[count..];
        }
        queue.Signal();
    }

    public void Event(CharEvent what)
    {
        switch (what)
        {
            case CharEvent.Opened or CharEvent.Closed when !IsConsole: SetHostOpen(what == CharEvent.Opened); break;
            case CharEvent.Resized when IsConsole: _device?.Resized(this, _isReady); break;
        }
    }

    public void Writable() => Send();

    /// <summary>The guest gave buffers.</summary>
    internal void Refilled() => _backend?.AcceptInput();

    /// <summary>Passes on what the guest gave, as far as the backend takes it; the rest stays in the guest's
    /// buffers.</summary>
    internal void Send()
    {
        if (_device?.TransmitQueue(Number) is not { } queue) return;
        uint left = MostAtOnce;
        int budget = Virtqueue.Burst;
        bool any = false, isBlocked = false;
        do
            for (; budget > 0 && !isBlocked && queue.TryPop(out DescriptorChain? chain); budget--)
            {
                isBlocked = !Send(chain, ref left);
                if (isBlocked) queue.Unpop(chain);
                else
                {
                    queue.Push(chain, 0);
                    any = true;
                }
            }
        while (!isBlocked && queue.EnableKicks() && budget > 0);
        if (any) queue.Signal();
        if (left == 0 || budget == 0) _device.GoOnSoon();
    }

    /// <summary>False: there is more, which <see cref="_sent"/> knows.</summary>
    bool Send(DescriptorChain chain, ref uint left)
    {
        if (_backend != null && _sent < chain.ReadableLength)
            foreach (Memory<byte> piece in chain.Readable.Slice(_sent, chain.ReadableLength - _sent))
            {
                int most = (int)Math.Min((uint)piece.Length, left), taken = _backend.Write(piece.Span[..most]);
                _sent += (uint)taken;
                left -= (uint)taken;
                if (taken < piece.Length) return false;
            }
        _sent = 0;
        return true;
    }

    /// <summary>Past the queues: what the backend does not take now is lost.</summary>
    internal void WriteAtOnce(byte character) => _backend?.Write([character]);

    internal void Ready()
    {
        _isReady = true;
        _device?.Owe(Number, (byte)((IsConsole ? VirtioSerial.OwesConsole : 0)
            | (PortName != null ? VirtioSerial.OwesName : 0) | (_isHostOpen ? VirtioSerial.OwesOpen : 0)
            | (IsConsole && WindowSize != null ? VirtioSerial.OwesSize : 0)));
    }

    internal void SetGuestOpen(bool isOpen)
    {
        if (isOpen == _isGuestOpen) return;
        _isGuestOpen = isOpen;
        _guestOpened?.Invoke(isOpen);
        if (isOpen) _backend?.AcceptInput();
    }

    void SetHostOpen(bool isOpen)
    {
        if (isOpen == _isHostOpen) return;
        _isHostOpen = isOpen;
        if (_isReady) _device?.Owe(Number, VirtioSerial.OwesOpen);
    }

    public void Reset()
    {
        (_isReady, _sent) = (false, 0);
        SetGuestOpen(false);
    }

    /// <summary>The guest knew the host's end as it was; here it may be another.</summary>
    public void Exchange(StateStream state)
    {
        bool knownOpen = _isHostOpen;
        state.Field("ready", ref _isReady);
        state.Field("guest-open", ref _isGuestOpen);
        state.Field("host-open", ref knownOpen);
        state.Field("sent", ref _sent);
        if (!state.IsLoading) return;
        if (knownOpen != _isHostOpen && _isReady) _device?.OweLater(Number, VirtioSerial.OwesOpen);
    }
}
