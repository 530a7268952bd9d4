using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

/// <summary>What kind of slot a guest speaks of.</summary>
[JsonConverter(typeof(NamedSlot))]
public enum AcpiSlot { Dimm, Cpu }

/// <summary>As QMP names it: DIMM, CPU.</summary>
public sealed class NamedSlot() : JsonStringEnumConverter<AcpiSlot>(UpperCase.Policy, allowIntegerValues: false)
{
    sealed class UpperCase : System.Text.Json.JsonNamingPolicy
    {
        public static readonly UpperCase Policy = new();
        public override string ConvertName(string name) => name.ToUpperInvariant();
    }
}

/// <summary>What a guest said by _OST of the device in a slot.</summary>
/// <param name="Device">Its id, if any.</param>
/// <param name="Slot">The slot's number.</param>
/// <param name="Source">The event that it speaks of: ACPI 6.3, table 6-215.</param>
/// <param name="Status">Table 6-216 ff.</param>
public sealed record AcpiOst(string? Device, string Slot, AcpiSlot SlotType, int Source, int Status);
