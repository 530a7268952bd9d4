using Qkvm.Core.Devices;

namespace Qkvm.Core.Acpi;

/// <summary>A device of ACPI's name space: what stands in <c>Device (NAME) { … }</c>.</summary>
/// <param name="Terms">Asked when the tables are written.</param>
public readonly record struct AcpiDescription(string Name, Func<Aml[]> Terms)
{
    /// <summary>The descriptions of all on a bus, each with those of its own buses inside. What sits below a device
    /// that has none is not described.</summary>
    public static Aml[] Of(QBus bus)
    {
        var named = new HashSet<string>(StringComparer.Ordinal);
        var terms = new List<Aml>();
        foreach (QDevice device in bus.Devices)
        {
            Aml[] below = device.Descriptions.Count == 0 ? [] : [.. device.Buses.SelectMany(Of)];
            foreach (AcpiDescription description in device.Descriptions)
            {
                if (named.Add(description.Name))
                    terms.Add(Aml.Device(description.Name, [.. description.Terms(), .. below]));
                below = [];                                        // in the first one alone
            }
        }
        return [.. terms];
    }
}
