using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Hw.Display;

/// <summary>What QEMU's standard VGA is on any bus: the VGA registers and ports, Bochs VBE, the window at A0000h, video
/// memory.</summary>
sealed class VgaCore
{
    readonly BochsDispi _dispi;
    readonly VgaMemory _window;
    readonly VgaPainter _painter;
    readonly LateWrites _writes = new();

    public VgaCore(Properties properties, DeviceSite site, MemoryRegion? windows)
        : this(MemorySize(properties), site, windows) { }

    /// <param name="size">Bytes of video memory.</param>
    /// <param name="windows">The memory that shows the window; null: neither that nor ports are there.</param>
    public VgaCore(ulong size, DeviceSite site, MemoryRegion? windows)
    {
        Ram = site.Ram("vga.vram", size);
        _dispi = new BochsDispi((uint)size, OnModeChanged);
        _window = new VgaMemory(Registers, Ram);
        _painter = new VgaPainter(Registers, _dispi, Ram);
        if (windows == null) return;
        foreach (var (port, count) in VgaRegisters.Ports)
            site.MapPorts(port,
                MemoryRegion.Io("vga", count, new Shifted(Registers, port - VgaRegisters.FirstPort),
                AccessSizes.Bytes));
        site.MapPorts(BochsDispi.IndexPort,
            MemoryRegion.Io("vbe", BochsDispi.PortCount, _dispi, new AccessSizes(1, 4, 1, 2)));
        site.Map(windows, VgaMemory.Window,
            MemoryRegion.Io("vga-lowmem", VgaMemory.WindowSize, _window, AccessSizes.Bytes, _writes), 1);
    }

    public VgaRegisters Registers { get; } = new();
    public BochsDispi Dispi => _dispi;
    public GuestRam Ram { get; }

    public void Paint(FrameBuffer target)
    {
        _writes.Settle();
        _painter.Paint(target);
    }

    public bool PaintText(TextScreen target)
    {
        _writes.Settle();
        return _painter.PaintText(target);
    }

    public void Reset()
    {
        Registers.Reset();
        _dispi.Reset();
        _window.Reset();
    }

    public void Exchange(StateStream state)
    {
        Registers.Exchange(state.Group("registers"));
        _dispi.Exchange(state.Group("dispi"));
        _window.Exchange(state.Group("window"));
        if (state.IsLoading) ShowMode();
    }

    static ulong MemorySize(Properties properties)
    {
        ulong size = properties.Number("vgamem_mb") << 20;
        return BitOperations.IsPow2(size) && size is >= (1 << 20) and <= (256 << 20) ? size
            : throw properties.Error($"vgamem_mb={size >> 20}: expects a power of two from 1 to 256");
    }

    void ShowMode()
    {
        _window.Bank = _dispi.IsEnabled ? _dispi.BankOffset : 0;
        _window.IsLinear = _dispi.IsEnabled && _dispi.Bits != 4;
        Registers.WidePalette = _dispi.HasWideDac;
    }

    void OnModeChanged()
    {
        ShowMode();
        bool clear = _dispi.TakeClearRequest();
        if (!_dispi.IsEnabled) return;
        // VBE modes show 64 KiB of the memory at A0000h, and are graphics.
        ref byte miscellaneous = ref Registers.Graphics[VgaRegisters.Miscellaneous];
        miscellaneous = (byte)(miscellaneous & ~0x0C | 5);
        if (!clear) return;
        int length = (int)Math.Min(Ram.Size, (ulong)_dispi.Pitch * (ulong)_dispi.Height);
        Ram.Span(0, length).Clear();
        Ram.MarkWritten(0, (ulong)length);
    }

    /// <summary>A bank seen from another first offset.</summary>
    internal sealed class Shifted(IRegisterBank bank, ulong shift) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => bank.Read(offset + shift, size);
        public void Write(ulong offset, int size, ulong value) => bank.Write(offset + shift, size, value);
    }
}
