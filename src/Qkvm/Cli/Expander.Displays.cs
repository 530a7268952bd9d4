using Qkvm.Backends.Display;
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
    bool _displayChosen;
    (string Name, DeviceModel? Model, string Owner)? _vga;

    void AddDisplay(string text, string owner)
    {
        _displayChosen = true;
        Options options = Options.Parse(text, owner, "type");
        if (options.Has(VncServer.Model.Name)) { AddVnc(text, owner); return; }
        DisplayModel model = Catalogue.Displays.Known(options.Text("type") ?? "", owner);
        if (model == VncServer.Model) throw new ConfigurationException($"{owner}: needs an address: -display vnc=:0");
        if (model != NoDisplay.Model) _displays.Add(new DisplayConfig(model.Name, options));
        else options.Close();
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
            _devices.Insert(_onBoard++, new DeviceConfig(card.Name, null, _machine == null || kind == VideoKind.Isa ? []
                : [new("addr", _machine.Defaults.VideoAddress)], vga.Owner));
        _config = _config with { Vga = vga.Name, Displays = [.. _displays], NoGraphic = _noGraphic };
    }
}
