using Qkvm.Core.Configuration;
using Qkvm.Host;
using Qkvm.Hw.Pci;

namespace Qkvm.Tests;

/// <summary>-device vfio-pci is refused by what stands in its way, and where nothing does, by what is missing
/// here.</summary>
public sealed class VfioOptionTests : IDisposable
{
    readonly string _root = Directory.CreateTempSubdirectory("vfio").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    string Refusal(string options) => VfioPci.Refusal(new Properties(VfioPci.Models[0],
        Options.Parse(options, $"-device vfio-pci,{options}")), new VfioHost(_root, _root)).Message;

    [Theory]
    [InlineData("x-vga=on", "No provided host device; write host=DDDD:BB:DD.F, or sysfsdev=FOLDER")]
    [InlineData("host=zzz",
        "Property 'vfio-pci.host' doesn't take value 'zzz'; write [DDDD:]BB:DD.F, as lspci -D does")]
    [InlineData("sysfsdev=/nowhere", "vfio /nowhere: no such host device; lspci -D lists those there are; besides, "
        + "functions of the host are not given to guests yet; use virtio-net-pci or virtio-blk-pci")]
    [InlineData("host=03:00.0,sysfsdev=/nowhere", "vfio /nowhere: no such host device; lspci -D lists those there are; "
        + "besides, functions of the host are not given to guests yet; use virtio-net-pci or virtio-blk-pci")]
    public void One_line_says_what_is_wrong(string options, string says) =>
        Assert.Equal($"-device vfio-pci,{options}: {says}", Refusal(options));

    [Fact]
    public void Names_of_QEMU_s_properties_are_known() =>
        Assert.StartsWith("-device vfio-pci,host=03:00.0,x-vga=on,romfile=: vfio ",
            Refusal("host=03:00.0,x-vga=on,romfile="));

    [Theory]
    [InlineData("vfio-pci")] [InlineData("vfio-pci-nohotplug")]
    public void It_is_known_and_not_listed(string name)
    {
        Assert.Null(Catalogue.Devices.Find(name));
        Assert.Same(VfioPci.Models.Single(model => model.Name == name), Catalogue.Devices.Known(name));
    }
}
