using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Cli;

public sealed partial class Expander
{
    string? _usb;                                                  // the option that asks for it

    /// <summary>-usbdevice: what devices were called before -device, and deprecated since.</summary>
    void AddUsbDevice(string name, string owner)
    {
        (string Name, string Device)[] known = Catalogue.UsbDevices;
        int at = Array.FindIndex(known, device => device.Name == name);
        if (at < 0)
        {
            string former = name.Split(':')[0];
            throw new ConfigurationException($"{owner}: could not add USB device '{name}'"
                + (Missing.FormerUsbDevices.FirstOrDefault(device => device.Name == former) is { Remedy: { } now }
                    ? $"; use {now}" : name == former ? Suggestion.For(name, known.Select(device => device.Name))
                    : "; it takes a name alone: " + string.Join(", ", known.Select(device => device.Name))));
        }
        _usb ??= owner;
        _devices.Add(new DeviceConfig(known[at].Device, null, [], owner));
    }

    void FinishUsb()
    {
        // read without taking: the machine's own check of its properties comes later
        OptionPair? said = _machineOptions.Rest.LastOrDefault(option => option.Name == "usb");
        if (said is { Value: { } text } && Options.ParseBool(text) is { } isOn)
            _usb = isOn ? _usb ?? $"{_machineOptions.Owner}" : null;
        if (_usb == null || _machine == null) return;
        if (_machine.Defaults.Usb.Count == 0)
            _warn($"{_usb}: the machine {_machine.Name} has no USB controller of its own; use -device");
        foreach (var (model, properties) in _machine.Defaults.Usb)
            _devices.Insert(_onBoard++, new DeviceConfig(model.Name, null, properties, _usb));
    }
}
