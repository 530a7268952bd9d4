using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Display;

/// <summary>QEMU's standard VGA on ISA: the linear framebuffer lies where Bochs VBE always had it, and the machine's
/// firmware finds the video BIOS in fw_cfg.</summary>
public sealed class IsaVga : IDevice, IDisplaySource
{
    const ulong LinearFramebuffer = 0xE000_0000;                   // VBE_DISPI_LFB_PHYSICAL_ADDRESS
    const string VideoBios = "vgabios-isavga.bin";

    public static readonly DeviceModel Model = new("isa-vga", BusKind.Isa,
        [Property.Number("vgamem_mb", 8, 1, 256, "video memory in MiB, a power of two")],
        static (properties, site) => new IsaVga(properties, site))
    {
        Category = DeviceCategory.Display,
        Description = "standard VGA",
        Replaces = DefaultDevice.Vga,
    };

    readonly VgaCore _core;

    public IsaVga(Properties properties, DeviceSite site)
    {
        _core = new VgaCore(properties, site, site.Board.Memory.Root);
        site.MapMemory(LinearFramebuffer, MemoryRegion.OfRam(_core.Ram.Name, _core.Ram, 0, _core.Ram.Size));
        if (site.Board.FindFirmware(VideoBios) is { } rom) site.Board.AddFirmwareFile($"vgaroms/{VideoBios}", rom);
        site.AddDisplay(this);
        Reset();
    }

    public string Name => Model.Name;

    public void Paint(FrameBuffer target) => _core.Paint(target);
    public bool PaintText(TextScreen target) => _core.PaintText(target);
    public void Reset() => _core.Reset();
    public void Exchange(StateStream state) => _core.Exchange(state);
}
