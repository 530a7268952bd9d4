using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Display;

/// <summary>The Bochs VBE interface: index at port 1CEh, data at 1CFh or 1D0h. Spec: Bochs VBE Extensions, "DISPI
/// interface", version B0C5h; and QEMU's docs/specs/standard-vga.txt for the same registers in BAR 2.</summary>
/// <param name="memorySize">Bytes of video memory.</param>
/// <param name="changed">The mode or the bank changed.</param>
public sealed class BochsDispi(uint memorySize, Action changed) : IRegisterBank
{
    /// <summary>The data port is at 1CFh for most guests and at 1D0h for those that want it aligned; the last port is
    /// the upper half of words there.</summary>
    public const ulong IndexPort = 0x1CE, PortCount = 4;

    // Registers
    const int Id = 0, XResolution = 1, YResolution = 2, BitsPerPixel = 3, EnableRegister = 4, Bank = 5,
        VirtualWidth = 6, VirtualHeight = 7, XOffset = 8, YOffset = 9, VideoMemory64K = 0xA, Count = 0xB;
    const ushort Enabled = 1, GetCapabilities = 2, WideDac = 0x20, KeepMemory = 0x80;
    const ushort OldestId = 0xB0C0, NewestId = 0xB0C5;
    const ushort MaxX = 16000, MaxY = 12000, MaxBits = 32;

    readonly ushort[] _registers = new ushort[Count];
    ushort _index;

    public bool IsEnabled => (_registers[EnableRegister] & Enabled) != 0;
    public bool HasWideDac => (_registers[EnableRegister] & WideDac) != 0;
    public int Width => _registers[XResolution];
    public int Height => _registers[YResolution];
    public int Bits => _registers[BitsPerPixel];
    public uint BankOffset => (uint)_registers[Bank] << 16;

    /// <summary>Bytes from one line to the next, the four planes of a 4-bit mode together.</summary>
    public uint Pitch => BytesOf(_registers[VirtualWidth]);

    /// <summary>Where the picture begins.</summary>
    public uint Start => _registers[YOffset] * Pitch + BytesOf(_registers[XOffset]);

    uint BytesOf(uint pixels) => Bits == 4 ? pixels / 8 * 4 : pixels * (uint)((Bits + 7) / 8);

    /// <summary>Set once the guest asks for the old picture to be cleared.</summary>
    public bool TakeClearRequest()
    {
        bool wanted = _clear;
        _clear = false;
        return wanted;
    }

    bool _clear;                                                   // not migrated: taken before the register write ends

    public void Reset()
    {
        Array.Clear(_registers);
        _registers[Id] = NewestId;
        _registers[VideoMemory64K] = (ushort)(memorySize >> 16);
        _index = 0;
        _clear = false;
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < Count; i++) state.Group("register", i).Field("value", ref _registers[i]);
        state.Field("index", ref _index);
        Constrain();
    }

    /// <param name="offset">0: index, 1 or 2: data, 3: nothing of its own.</param>
    public ulong Read(ulong offset, int size) => offset switch
    {
        0 => _index,
        1 or 2 => ReadRegister(_index),
        _ => 0xFF,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == 0) _index = (ushort)value;
        else if (offset < 3) WriteRegister(_index, (ushort)value);
    }

    public ushort ReadRegister(int index)
    {
        if (index >= Count) return 0;
        bool limits = (_registers[EnableRegister] & GetCapabilities) != 0;
        return index switch
        {
            XResolution when limits => MaxX,
            YResolution when limits => MaxY,
            BitsPerPixel when limits => MaxBits,
            _ => _registers[index],
        };
    }

    public void WriteRegister(int index, ushort value)
    {
        switch (index)
        {
            case Id:
                if (value is >= OldestId and <= NewestId) _registers[Id] = value;
                return;
            case XResolution or YResolution or BitsPerPixel or VirtualWidth or XOffset or YOffset or Bank:
                _registers[index] = value;
                break;
            case EnableRegister:
                bool starts = (value & Enabled) != 0 && !IsEnabled;
                if (starts) (_registers[VirtualWidth], _registers[XOffset], _registers[YOffset]) = (0, 0, 0);
                _clear = starts && (value & KeepMemory) == 0;
                _registers[Bank] = 0;
                _registers[EnableRegister] = value;
                break;
            default: return;
        }
        Constrain();
        changed();
    }

    /// <summary>Keeps the mode within the video memory, whatever was written or loaded. While the interface is off the
    /// resolution may be written in any order.</summary>
    void Constrain()
    {
        _registers[Bank] &= (ushort)((memorySize >> 16) - 1);      // a power of two of banks
        if (!IsEnabled) return;
        if (Bits is not (4 or 8 or 15 or 16 or 24 or 32)) _registers[BitsPerPixel] = 32;
        uint width = Math.Clamp(_registers[XResolution] & ~7u, 8, MaxX);
        uint virtualWidth = Math.Clamp(_registers[VirtualWidth] & ~7u, width, MaxX);
        (_registers[XResolution], _registers[VirtualWidth]) = ((ushort)width, (ushort)virtualWidth);
        uint maxHeight = Math.Min(memorySize / Pitch, ushort.MaxValue);
        _registers[YResolution] = (ushort)Math.Clamp(_registers[YResolution], 1, Math.Min(MaxY, maxHeight));
        _registers[VirtualHeight] = (ushort)maxHeight;
        if (Start + (ulong)Pitch * _registers[YResolution] > memorySize)
            (_registers[XOffset], _registers[YOffset]) = (0, 0);
    }
}
