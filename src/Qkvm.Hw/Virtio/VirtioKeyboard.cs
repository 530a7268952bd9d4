using Qkvm.Core.Input;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;

namespace Qkvm.Hw.Virtio;

/// <summary>virtio-keyboard: keys one by one, and lights that the driver sets. Virtio 1.2, section 5.8.</summary>
public sealed class VirtioKeyboard : VirtioInput, IKeyboardSink
{
    readonly InputRouter _router;
    KeyboardLocks _lights;

    public VirtioKeyboard(string name, string? serial, InputRouter router)
        : base(name, "QEMU Virtio Keyboard", serial, product: 1)
    {
        _router = router;
        foreach (KeyCode key in Enum.GetValues<KeyCode>())
            if (EvdevCodes.Of(key) is not 0 and ushort code) Has(EvdevCodes.Key, code);
        Has(EvdevCodes.Led, EvdevCodes.NumLock, EvdevCodes.CapsLock, EvdevCodes.ScrollLock);
        Has(EvdevCodes.Repeat, 0, 1);                              // delay and period
    }

    public bool HasRoom => HasRoomFor(1);
    public KeyboardLocks Lights => _lights;
    public event Action? Changed;

    public void Key(KeyCode key, bool down)
    {
        if (EvdevCodes.Of(key) is not 0 and ushort code) Report((EvdevCodes.Key, code, down ? 1 : 0));
    }

    /// <summary>Without a driver another keyboard has the keys.</summary>
    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        base.Start(queues, features);
        _router.Add(this);
    }

    public override void Stop()
    {
        base.Stop();
        _router.Remove(this);
    }

    protected override void RoomCame() => Changed?.Invoke();

    protected override void StatusCame(ushort type, ushort code, uint value)
    {
        if (type != EvdevCodes.Led) return;
        KeyboardLocks light = code switch
        {
            EvdevCodes.NumLock => KeyboardLocks.Num,
            EvdevCodes.CapsLock => KeyboardLocks.Caps,
            EvdevCodes.ScrollLock => KeyboardLocks.Scroll,
            _ => KeyboardLocks.None,
        };
        _lights = value != 0 ? _lights | light : _lights & ~light;
        Changed?.Invoke();
    }

    public override void Reset()
    {
        base.Reset();
        _lights = KeyboardLocks.None;
    }

    public override void Exchange(StateStream state)
    {
        base.Exchange(state);
        byte lights = (byte)_lights;
        state.Field("lights", ref lights);
        _lights = (KeyboardLocks)(lights & 7);
    }
}
