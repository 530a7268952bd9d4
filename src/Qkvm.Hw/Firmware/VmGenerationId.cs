using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.State;

namespace Qkvm.Hw.Firmware;

/// <summary>vmgenid: the number lies in a page that the firmware places, of which ACPI tells.</summary>
/// <remarks>Deviations: it never changes while the machine runs, and no guest is notified.</remarks>
public sealed class VmGenerationId(Guid generation) : IGenerationId
{
    public static readonly DeviceModel Model = new("vmgenid", BusKind.System,
        [Property.Text("guid", Automatic, "the number, or auto for one by chance")],
        static (properties, site) =>
        {
            if (!site.Board.TakesGenerationId)
                throw properties.Error("vmgenid requires the ACPI tables of -machine pc or q35");
            if (site.Bus.AllDevices.Any(node => node.Device is VmGenerationId))
                throw properties.Error("at most one vmgenid device is permitted");
            string text = properties.Text("guid") ?? Automatic;
            Guid generation = Guid.NewGuid();
            if (text != Automatic && !Guid.TryParseExact(text, "D", out generation))
                throw properties.Error($"Property 'vmgenid.guid' doesn't take value '{text}'; give a UUID such as "
                    + "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87, or auto");
            var page = new byte[IGenerationId.FileSize];
            generation.TryWriteBytes(page.AsSpan(IGenerationId.Offset));
            site.Board.AddFirmwareFile(IGenerationId.File, page);
            return new VmGenerationId(generation);
        }) { Description = "the number by which a guest knows that it is a copy", IsHotPluggable = false };

    const string Automatic = "auto";

    public string Name => Model.Name;
    public Guid Generation => generation;
    public void Reset() { }
    public void Exchange(StateStream state) { }                    // a loaded machine has the number of its own
}
