using Qkvm.Core.Devices;

namespace Qkvm.Hw.Virtio;

/// <summary>virtio's keyboard, mouse and tablet, as users name them.</summary>
public static class VirtioInputModels
{
    const uint Keyboard = 0x090000, Mouse = 0x090200;              // class codes

    public static readonly DeviceModel[] All =
    [
        .. Family("virtio-keyboard-pci", "virtio keyboard", Keyboard, [],
            static (name, values, site) => new VirtioKeyboard(name, values.Text("serial"), site.Board.Input)),
        .. Family("virtio-mouse-pci", "virtio mouse", Mouse, [WheelAxis], static (name, values, site) =>
            Pointer(name, values, site, isAbsolute: false)),
        .. Family("virtio-tablet-pci", "virtio tablet", Mouse, [WheelAxis], static (name, values, site) =>
            Pointer(name, values, site, isAbsolute: true)),
    ];

    static Property WheelAxis => Property.Bool("wheel-axis", true, "the wheel is an axis, and no buttons");

    static VirtioPointer Pointer(string name, Properties values, DeviceSite site, bool isAbsolute) =>
        new(name, values.Text("serial"), site.Board.Input, isAbsolute, values.Bool("wheel-axis"));

    static DeviceModel[] Family(string name, string description, uint classCode, Property[] own,
        Func<string, Properties, DeviceSite, VirtioInput> create) =>
        VirtioPciModels.Family(name, description, DeviceCategory.Input, classCode,
            [
                .. own, Property.Text("serial", help: "as the guest shows it"),
                Property.Missing("display", remedy: "it hears of all displays"), Property.Missing("head", "0"),
            ],
            static _ => 2, create, isModern: true);
}
