using Qkvm.Core.Devices;
using Qkvm.Core.Net;
using Qkvm.Hw.Virtio;

namespace Qkvm.Hw.Net;

/// <summary>What the models of network cards share.</summary>
static class NetCards
{
    /// <summary>romfile=, by default iPXE for the card where it is installed.</summary>
    /// <param name="card">As iPXE's ROM is named.</param>
    public static Property Rom(string card) =>
        Property.Text("romfile", null, $"option ROM file, empty for none; else efi-{card}.rom where there is one");

    public static NetCardSite Site(Properties values, DeviceSite site)
    {
        byte[] mac = values.Text("mac") is { } text ? MacAddress.Parse(text, values.Owner) : MacAddress.Default;
        NetBackend? backend = values.Text("netdev") is { } id ? site.Netdev(id) : null;
        return new NetCardSite(backend, mac, site.Board.Loop, site.Clock);
    }
}
