using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Display;

namespace Qkvm.Hw.Virtio.Gpu;

/// <summary>The virtio GPU as users name it: alone, and with VGA for firmware and guests that know no
/// other.</summary>
public static class VirtioGpuModels
{
    const uint OtherClass = 0x038000, VgaClass = 0x030000;
    const int Vectors = 3;

    public static readonly DeviceModel[] Models = VirtioPciModels.Family("virtio-gpu-pci", "virtio GPU, 2D",
        DeviceCategory.Display, OtherClass, VirtioGpu.Options, _ => Vectors,
        static (name, values, site) => new VirtioGpu(name, values, site), isModern: true);

    public static readonly DeviceModel Vga = new("virtio-vga", BusKind.Pci,
        [
            .. VirtioGpu.Options, Property.Bool("event_idx", true), Property.Bool("indirect_desc", true),
            Property.Bool("packed", false), Property.Number("vectors", Vectors, max: 128),
            Property.Text("romfile", "vgabios-virtio.bin", "video BIOS, empty for none"),
        ], CreateVga)
    {
        Category = DeviceCategory.Display,
        Description = "virtio GPU, 2D, and VGA",
        Replaces = DefaultDevice.Vga,
        IsHotPluggable = false,
    };

    static VirtioPci CreateVga(Properties values, DeviceSite site)
    {
        var vga = new VgaPart(values, site);
        var gpu = new VirtioGpu(Vga.Name, values, site, vga);
        return new VirtioPci(Vga.Name, gpu, new VirtioPciOptions(VgaClass, (int)values.Number("vectors"), Legacy: false,
            Modern: true, values.Bool("indirect_desc"), values.Bool("event_idx"), values.Bool("packed"))
        {
            Lock = site.Board.Lock,
            IsExpress = site.Bus.Wires is PciBus { IsExpress: true },
            Vga = vga,
        });
    }

    /// <summary>What is seen until the guest shows a picture.</summary>
    sealed class VgaPart : IVgaPart, IDisplaySource
    {
        const ulong VideoMemory = 8 << 20;

        readonly VgaCore _core;

        public VgaPart(Properties values, DeviceSite site)
        {
            _core = new VgaCore(VideoMemory, site, ((PciBus)site.Bus.Wires!).MemorySpace);
            Framebuffer = MemoryRegion.OfRam(_core.Ram.Name, _core.Ram, 0, _core.Ram.Size);
            Page = DisplayMmio.Make(values.Bool("edid")
                ? Edid.Build((int)values.Number("xres"), (int)values.Number("yres")) : null, _core.Dispi,
                _core.Registers);
            _core.Reset();
        }

        public MemoryRegion Framebuffer { get; }
        public MemoryRegion Page { get; }
        public void Reset() => _core.Reset();
        public void Exchange(StateStream state) => _core.Exchange(state);
        public void Paint(FrameBuffer target) => _core.Paint(target);
        public bool PaintText(TextScreen target) => _core.PaintText(target);
    }
}
