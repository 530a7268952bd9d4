using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    /// <summary>The first free port from 5900 on, on loopback alone.</summary>
    const string DefaultVnc = "localhost:0,to=99";

    readonly List<DisplayConfig> _displays = [];
    bool _displayChosen, _vgaByDevice;
    string? _vga;

    void AddDisplay(string text, string owner)
    {
        _displayChosen = true;
        int comma = text.IndexOf(','), equals = text.IndexOf('=');
        if (text.StartsWith("vnc=", StringComparison.Ordinal)) { AddVnc(text["vnc=".Length..], owner); return; }
        string kind = comma < 0 ? text : text[..comma];
        switch (kind)
        {
            case "none": break;
            case "vnc": throw new ConfigurationException($"{owner}: needs an address: -display vnc=:0");
            case "gtk" or "sdl" or "curses" or "egl-headless" or "spice-app" or "dbus" or "cocoa":
                throw new ConfigurationException($"{owner}: a {kind} window is not built yet; use -display vnc=:0 with a VNC viewer, or -nographic");
            default:
                throw new ConfigurationException($"{owner}: '{kind}' is not a display{Suggestion.For(kind, ["none", "vnc", "gtk", "sdl", "curses"])}");
        }
    }

    void AddVnc(string text, string owner)
    {
        _displayChosen = true;
        var list = new KeyValueList(text, owner, "address");
        string address = list.Take("address") ?? "";
        if (address == "none") return;
        _displays.Add(new DisplayConfig("vnc", list.Rest, owner) { Address = address });
    }

    static string TakeVga(string kind, string owner) => kind switch
    {
        "std" or "none" => kind,
        "virtio" or "cirrus" or "vmware" or "qxl" or "xenfb" => throw new ConfigurationException($"{owner}: this card is not built yet; use -vga std"),
        _ => throw new ConfigurationException($"{owner}: '{kind}' is not a video card{Suggestion.For(kind, ["std", "none", "virtio", "cirrus", "vmware", "qxl"])}"),
    };

    void FinishDisplays()
    {
        if (!_displayChosen && !_noGraphic)
        {
            var list = new KeyValueList(DefaultVnc, "default display", "address");
            _displays.Add(new DisplayConfig("vnc", list.Pairs.Skip(1).ToArray(), "default display") { Address = list.Take("address")! });
        }
        string vga = _vga ?? (_noDefaults || _vgaByDevice ? "none" : "std");
        if (vga == "std") _devices.Insert(0, new DeviceConfig("VGA", null, IsI440Fx ? [new("addr", "0x2")] : [new("addr", "0x1")], _vga == null ? "default video card" : "-vga std"));
        _config = _config with { Vga = vga, Displays = [.. _displays], NoGraphic = _noGraphic };
    }
}
