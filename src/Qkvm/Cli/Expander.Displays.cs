using Qkvm.Backends.Display;
using Qkvm.Backends.Display.Curses;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Machines;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    /// <summary>The first free port from 5900 on, on loopback alone.</summary>
    const string DefaultVnc = "localhost:0,to=99";

    readonly List<DisplayConfig> _displays = [];
    bool _displayChosen, _isFullScreen;
    (string Text, string Owner)? _geometry;
    (string Name, DeviceModel? Model, string Owner)? _vga;

    void AddDisplay(string text, string owner)
    {
        _displayChosen = true;
        Options options = Options.Parse(text, owner, "type");
        if (options.Has(VncServer.Model.Name)) { AddVnc(text, owner); return; }
        DisplayModel model = Catalogue.Displays.Known(options.Text("type") ?? "", owner);
        if (model == VncServer.Model) throw new ConfigurationException($"{owner}: needs an address: -display vnc=:0");
        ForgetWindows();
        if (model == NoDisplay.Model) options.Close();
        else _displays.Add(new DisplayConfig(model.Name, options));
    }

    /// <summary>There is one display beside VNC servers: the last option holds.</summary>
    void ForgetWindows() => _displays.RemoveAll(display => display.Kind != VncServer.Model.Name);

    /// <summary>It is -display none, too.</summary>
    void TakeNoGraphic()
    {
        _noGraphic = true;
        ForgetWindows();
    }

    static ConfigurationException RemovedDisplayOption(string name, string owner)
    {
        string instead = name switch
        {
            "sdl" or "curses" => $"write -display {name}",
            "no-quit" => "write -display sdl,window-close=off",
            "alt-grab" => "write -display sdl,grab-mod=lshift-lctrl-lalt",
            "ctrl-grab" => "write -display sdl,grab-mod=rctrl",
            _ => "leave it out",
        };
        return new ConfigurationException($"{owner}: the option -{name} was removed from QEMU; {instead}");
    }

    /// <summary>-g: what the card's monitor prefers. QEMU knows it for other architectures alone.</summary>
    IEnumerable<OptionPair> Geometry(DeviceModel? card)
    {
        if (_geometry is not var (text, owner)) return [];
        string[] parts = text.Split('x');
        bool isWell = parts.Length is 2 or 3 && parts.All(part => ushort.TryParse(part, out _));
        if (!isWell) throw new ConfigurationException($"{owner}: expects WIDTHxHEIGHT, such as -g 1280x800");
        if (parts is [_, _, not "32"])
            throw new ConfigurationException($"{owner}: a monitor prefers a resolution, no depth; write -g "
                + $"{parts[0]}x{parts[1]}");
        if (card?.Find("xres") == null)
            throw new ConfigurationException($"{owner}: there is no card here whose monitor prefers a resolution; use "
                + "-vga std, -vga virtio, or give the -device its own xres= and yres=");
        return [new("xres", parts[0]), new("yres", parts[1])];
    }

    void AddVnc(string text, string owner)
    {
        _displayChosen = true;
        Options options = Options.Parse(text, owner, VncServer.Model.Name);
        string address = options.Text(VncServer.Model.Name) ?? "";
        if (address == "none") return;
        _displays.Add(new DisplayConfig(VncServer.Model.Name, options) { Address = address });
    }

    void TakeVga(string kind, string owner)
    {
        int at = Array.FindIndex(Catalogue.VideoCards, c => c.Name == kind);
        if (at >= 0) _vga = (kind, Catalogue.VideoCards[at].Model, owner);
        else if (kind is "cirrus" or "vmware" or "qxl" or "xenfb" or "tcx" or "cg3")
            throw new ConfigurationException($"{owner}: this card is not built yet; use -vga std, or "
                + "virtio");
        else
        {
            string[] names = [.. Catalogue.VideoCards.Select(c => c.Name), "cirrus", "vmware", "qxl"];
            throw new ConfigurationException($"{owner}: '{kind}' is not a video card{Suggestion.For(kind, names)}");
        }
    }

    void FinishDisplays()
    {
        if (!_displayChosen && !_noGraphic) AddVnc(DefaultVnc, "default display");
        foreach (DisplayConfig display in _displays)
        {
            if (display.Kind == VncServer.Model.Name) continue;
            if (_isFullScreen) display.Options.Add("full-screen", "on");
            if (display.Kind == CursesDisplay.Model.Name && _noGraphic)
                throw new ConfigurationException($"{display.Owner}: -nographic has this terminal already; leave one of "
                    + "them out");
        }
        foreach (DisplayConfig display in _displays)
            if (display.Options.Text("audiodev") is { } audio) CheckAudiodev(audio, display.Owner);
        VideoKind kind = _machine?.Defaults.Video ?? VideoKind.Pci;
        if (kind == VideoKind.None && _vga is { Model: not null } unused)
        {
            _warn($"{unused.Owner}: A -vga option was passed but this machine type does not use that option; No VGA "
                + "device has been created");
            _vga = null;
        }
        (string Name, DeviceModel? Model, string Owner) vga = _vga
            ?? (_noDefaults || kind == VideoKind.None || _replaced.HasFlag(DefaultDevice.Vga) ? ("none", null, "")
                : (Catalogue.VideoCards[0].Name, Catalogue.VideoCards[0].Model, "default video card"));
        if (kind == VideoKind.Isa && vga.Model != null)
            vga.Model = Catalogue.IsaVideoCards.FirstOrDefault(card => card.Name == vga.Name) is (not null, var isa)
                ? isa : throw new ConfigurationException($"{vga.Owner}: this machine has no PCI; use -vga std");
        if (vga.Model is { } card)
            _devices.Insert(_onBoard++, new DeviceConfig(card.Name, null, [.. Geometry(card),
                .. _machine == null || kind == VideoKind.Isa ? Array.Empty<OptionPair>()
                : [new("addr", _machine.Defaults.VideoAddress)]], vga.Owner));
        else Geometry(null);
        _config = _config with { Vga = vga.Name, Displays = [.. _displays], NoGraphic = _noGraphic };
    }
}
