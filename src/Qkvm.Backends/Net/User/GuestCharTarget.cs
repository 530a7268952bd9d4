using Qkvm.Core.Char;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>guestfwd=…-chardev: the guest's connection is a character device's other side. A new one ends that before
/// it.</summary>
/// <remarks>On the main loop, under the machine lock.</remarks>
sealed class GuestCharTarget : ICharFrontend, IDisposable
{
    const int Piece = 4096;

    readonly ICharBackend _device;
    readonly EventLoop _loop;
    readonly Action<FdEvents> _onReady;
    readonly byte[] _toDevice = new byte[Piece], _toGuest = new byte[Piece];
    int _forDevice, _forGuest;                                     // bytes that wait in each
    RelaySocket? _peer;
    FdEvents _watched;
    bool _isDisposed;

    public GuestCharTarget(string id, ICharBackend device, EventLoop loop)
    {
        (Id, _device, _loop, _onReady) = (id, device, loop, OnReady);
        device.Connect(this);
    }

    public string Id { get; }

    /// <summary>What the device says while nobody is connected waits in it.</summary>
    public int Room => _peer == null ? 0 : Piece - _forGuest;

    public void Attach(RelaySocket peer)
    {
        if (_isDisposed) { peer.Dispose(); return; }
        Detach();
        _peer = peer;
        Watch();
        _device.AcceptInput();
    }

    public void Receive(ReadOnlySpan<byte> data)
    {
        data.CopyTo(_toGuest.AsSpan(_forGuest));
        _forGuest += data.Length;
        Push();
    }

    public void Writable()
    {
        Deliver();
        if (_peer != null) Watch();
    }

    public void Dispose()
    {
        _isDisposed = true;
        Detach();
        _device.Connect(null);
    }

    void OnReady(FdEvents events)
    {
        if (_peer == null) return;
        const FdEvents ends = FdEvents.Error | FdEvents.HangUp;
        if ((events & (FdEvents.Readable | ends)) != 0 && _forDevice == 0)
        {
            int count = _peer.Receive(_toDevice, default);
            if (count == 0 || count < 0 && count != -Libc.EAgain) { Detach(); return; }
            _forDevice = Math.Max(count, 0);
            Deliver();
        }
        if ((events & FdEvents.Writable) != 0) Push();
        if (_peer != null) Watch();
    }

    void Deliver()
    {
        int taken = _forDevice == 0 ? 0 : _device.Write(_toDevice.AsSpan(0, _forDevice));
        _toDevice.AsSpan(taken, _forDevice - taken).CopyTo(_toDevice);
        _forDevice -= taken;
    }

    void Push()
    {
        if (_peer == null || _forGuest == 0) return;
        Memory<byte> waiting = _toGuest.AsMemory(0, _forGuest);
        int sent = _peer.Send(new ReadOnlySpan<Memory<byte>>(in waiting));
        if (sent < 0 && sent != -Libc.EAgain) { Detach(); return; }
        sent = Math.Max(sent, 0);
        waiting[sent..].CopyTo(_toGuest);
        _forGuest -= sent;
        Watch();
        if (sent > 0) _device.AcceptInput();
    }

    /// <summary>For what can be gone on with.</summary>
    void Watch()
    {
        FdEvents wanted = (_forDevice == 0 ? FdEvents.Readable : 0) | (_forGuest > 0 ? FdEvents.Writable : 0);
        if (wanted == _watched) return;
        if (_watched != 0) _loop.Unwatch(_peer!.Fd);
        if (wanted != 0) _loop.Watch(_peer!.Fd, wanted, _onReady);
        _watched = wanted;
    }

    void Detach()
    {
        if (_peer == null) return;
        if (_watched != 0) _loop.Unwatch(_peer.Fd);
        _peer.Dispose();
        (_peer, _watched, _forDevice, _forGuest) = (null, 0, 0, 0);
    }
}
