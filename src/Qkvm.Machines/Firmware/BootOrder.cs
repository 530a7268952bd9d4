using System.Text;
using Qkvm.Core.Pci;

namespace Qkvm.Machines.Firmware;

/// <summary>The "bootorder" file: Open Firmware device paths by priority, one a line, as SeaBIOS and OVMF read
/// it.</summary>
public sealed class BootOrder
{
    readonly List<(ulong Index, string Path)> _entries = [];

    public void Add(ulong bootIndex, string path) => _entries.Add((bootIndex, path));

    public void Remove(string path) => _entries.RemoveAll(entry => entry.Path == path);

    /// <summary>Empty where nothing has a place in the order.</summary>
    /// <param name="strict">-boot strict=on: nothing else is tried.</param>
    public byte[] ToArray(bool strict)
    {
        List<string> lines = [.. _entries.OrderBy(e => e.Index).Select(e => e.Path)];
        if (strict) lines.Add("HALT");
        return lines.Count == 0 ? [] : Encoding.ASCII.GetBytes(string.Join('\n', lines) + "\0");
    }

    public static string PathOf(PciDevice device)
    {
        string node = NodeOf(device);
        string path = $"/pci@i0cf8/{node}@{device.DevFn >> 3:x}"
            + ((device.DevFn & 7) != 0 ? $",{device.DevFn & 7:x}" : "");
        return node switch
        {
            "scsi" => $"{path}/disk@0,0",
            "ethernet" => $"{path}/ethernet-phy@0",
            _ => path,
        };
    }

    public static string PathOfIde(PciDevice controller, int channel, int unit) =>
        $"{PathOf(controller)}/drive@{channel:x}/disk@{unit:x}";

    static string NodeOf(PciDevice device) => (device.Identity.ClassCode >> 8) switch
    {
        0x0100 => "scsi",
        0x0101 => "ide",
        0x0200 => "ethernet",
        0x0300 => "display",
        0x0C03 => "usb",
        _ => $"pci{device.Identity.VendorId:x4},{device.Identity.DeviceId:x4}",
    };
}
