using System.Numerics;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Hw.Display;

/// <summary>bochs-display: the linear framebuffer of the standard VGA and nothing else of it. Spec: Bochs VBE
/// Extensions, "DISPI interface"; QEMU docs/specs/standard-vga.txt.</summary>
/// <remarks>Deviations: the framebuffer is little endian alone; a mode of a palette or of planes shows
/// nothing.</remarks>
public sealed class BochsDisplay : PciDevice, IDisplaySource
{
    public static readonly DeviceModel Model = new("bochs-display", BusKind.Pci,
        [
            Property.Size("vgamem", 16 << 20, "video memory, a power of two from 1M to 256M"), .. DisplayMmio.Monitor,
            Property.Text("romfile", "vgabios-bochs-display.bin", "video BIOS, empty for none"),
        ], static (properties, site) => new BochsDisplay(properties, site))
    {
        Category = DeviceCategory.Display,
        Description = "linear framebuffer without VGA",
        IsHotPluggable = false,
    };

    const uint OtherClass = 0x038000;
    const ulong LeastMemory = 1 << 20, MostMemory = 256 << 20;
    const int MaxPixels = 1 << 24, IdleWidth = 640, IdleHeight = 480;

    readonly GuestRam _ram;
    readonly BochsDispi _dispi;

    public BochsDisplay(Properties properties, DeviceSite site)
        : base(new PciIdentity(0x1234, 0x1111, OtherClass, Revision: 2, HasInterruptPin: false), Model.Name)
    {
        ulong size = properties.Size("vgamem");
        if (!BitOperations.IsPow2(size) || size is < LeastMemory or > MostMemory)
            throw properties.Error($"vgamem={size}: expects a power of two from 1M to 256M");
        _ram = site.Ram("bochs-display.vram", size);
        _dispi = new BochsDispi((uint)size, OnModeChanged);
        Bar(0, MemoryRegion.OfRam(_ram.Name, _ram, 0, size), BarKind.Prefetchable32);
        Bar(2, DisplayMmio.Make(properties, _dispi, null), BarKind.Memory32);
        site.AddDisplay(this);
        _dispi.Reset();
    }

    public void Paint(FrameBuffer target)
    {
        int bits = _dispi.Bits;
        if (!_dispi.IsEnabled || bits < 15)
        {
            target.Resize(IdleWidth, IdleHeight);
            target.Pixels.Clear();
            return;
        }
        target.Resize(_dispi.Width, Math.Min(_dispi.Height, MaxPixels / _dispi.Width));
        for (int y = 0; y < target.Height; y++)
            PackedPixels.Unpack(target.Row(y), _ram.Span(_dispi.Start + (ulong)y * _dispi.Pitch,
                target.Width * PackedPixels.Size(bits)), bits);
    }

    protected override void ResetDevice() => _dispi.Reset();

    protected override void ExchangeDevice(StateStream state) => _dispi.Exchange(state.Group("dispi"));

    /// <summary>"The memory is cleared when a mode begins, unless the guest wants to keep it".</summary>
    void OnModeChanged()
    {
        if (!_dispi.TakeClearRequest() || !_dispi.IsEnabled) return;
        int length = (int)Math.Min(_ram.Size, (ulong)_dispi.Pitch * (ulong)_dispi.Height);
        _ram.Span(0, length).Clear();
        _ram.MarkWritten(0, (ulong)length);
    }
}
