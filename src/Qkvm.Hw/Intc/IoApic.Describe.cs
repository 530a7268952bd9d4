using System.Text;
using Qkvm.Core.Irq;

namespace Qkvm.Hw.Intc;

/// <summary>What `info pic` and `info irq` show.</summary>
public sealed partial class IoApic
{
    const ulong ActiveLow = 1 << 13, DeliveryPending = 1 << 12;

    readonly long[] _counts = new long[Inputs];                    // not migrated: for people

    public string ChipName => "ioapic";
    public IReadOnlyList<long> Counts => _counts;

    public string Describe()
    {
        var text = new StringBuilder($"ioapic0: ver=0x{VersionValue & 0xFF:x} id=0x{_id:x2} sel=0x{_select:x2}");
        int index = _select - RedirectionTable;
        text.Append((uint)index < Inputs * 2 ? $" (redir[{index >> 1}])\n" : "\n");
        for (int input = 0; input < Inputs; input++)
        {
            ulong entry = _table[input];
            bool isLogical = (entry & LogicalDestination) != 0;
            string vector = (entry >> 8 & 7) == (ulong)DeliveryMode.ExtInt ? "" : $"vec={(byte)entry,-3}";
            text.Append($"  pin {input,-2} 0x{entry:x16} dest={(isLogical ? "0x" : "")}{entry >> 56:X} "
                + $"{vector,-7} {((entry & ActiveLow) != 0 ? "active-lo" : "active-hi")} "
                + $"{((entry & LevelTriggered) != 0 ? "level" : "edge "),-5} "
                + $"{((entry & Masked) != 0 ? "masked" : "      ")} {ModeName(entry),-6} "
                + $"{(isLogical ? "logical" : "physical")}\n");
        }
        text.Append("  IRR     ").Append(Set(input => Input(input) || (_table[input] & DeliveryPending) != 0));
        text.Append("  Remote IRR").Append(Set(input => (_table[input] & RemoteIrr) != 0));
        return text.ToString();
    }

    static string ModeName(ulong entry) => (entry >> 8 & 7) switch
    {
        0 => "fixed", 1 => "lowest", 2 => "SMI", 4 => "NMI", 5 => "INIT", 7 => "ExtINT", _ => "reserved",
    };

    static string Set(Func<int, bool> isIn)
    {
        int[] members = [.. Enumerable.Range(0, Inputs).Where(isIn)];
        return members.Length == 0 ? " (none)\n" : $" {string.Join(' ', members)}\n";
    }
}
