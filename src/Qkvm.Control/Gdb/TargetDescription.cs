using System.Text;

namespace Qkvm.Control.Gdb;

/// <summary>What target.xml says of the registers. GDB manual, appendix G.</summary>
static class TargetDescription
{
    /// <summary>Flags by their type's name and size in bytes: names and bits.</summary>
    static readonly (string Type, int Size, string Fields)[] s_flags =
    [
        ("x64_eflags", 4, "CF:0 PF:2 AF:4 ZF:6 SF:7 TF:8 IF:9 DF:10 OF:11 IOPL:12-13 NT:14 RF:16 VM:17 AC:18 VIF:19 "
            + "VIP:20 ID:21"),
        ("x64_cr0", 8, "PE:0 MP:1 EM:2 TS:3 ET:4 NE:5 WP:16 AM:18 NW:29 CD:30 PG:31"),
        ("x64_cr4", 8, "VME:0 PVI:1 TSD:2 DE:3 PSE:4 PAE:5 MCE:6 PGE:7 PCE:8 OSFXSR:9 OSXMMEXCPT:10 UMIP:11 LA57:12 "
            + "VMXE:13 SMXE:14 FSGSBASE:16 PCIDE:17 OSXSAVE:18 SMEP:20 SMAP:21 PKE:22 CET:23 PKS:24"),
        ("x64_efer", 8, "SCE:0 LME:8 LMA:10 NXE:11 SVME:12 LMSLE:13 FFXSR:14 TCE:15"),
        ("x64_mxcsr", 4, "IE:0 DE:1 ZE:2 OE:3 UE:4 PE:5 DAZ:6 IM:7 DM:8 ZM:9 OM:10 UM:11 PM:12 FZ:15"),
    ];

    static readonly (string Id, string Element, int Count)[] s_vectors =
    [
        ("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16), ("v8i16", "int16", 8),
        ("v4i32", "int32", 4), ("v2i64", "int64", 2),
    ];

    public static readonly byte[] Xml = Encoding.ASCII.GetBytes(Write());

    static string Write()
    {
        var xml = new StringBuilder("""
            <?xml version="1.0"?>
            <!DOCTYPE target SYSTEM "gdb-target.dtd">
            <target version="1.0">
            <architecture>i386:x86-64</architecture>

            """);
        foreach (var feature in GdbRegisters.All.Select((r, i) => (Register: r, Number: i))
            .GroupBy(r => r.Register.Feature))
        {
            xml.Append($"<feature name=\"{feature.Key}\">\n");
            WriteTypes(xml, [.. feature.Select(r => r.Register.Type).Distinct()]);
            foreach (var (register, number) in feature)
            {
                string group = register.Group == null ? "" : $"group=\"{register.Group}\" ";
                xml.Append($"<reg name=\"{register.Name}\" bitsize=\"{register.Bits}\" type=\"{register.Type}\" ")
                    .Append($"{group}regnum=\"{number}\"/>\n");
            }
            xml.Append("</feature>\n");
        }
        return xml.Append("</target>\n").ToString();
    }

    static void WriteTypes(StringBuilder xml, string[] used)
    {
        foreach ((string type, int size, string fields) in s_flags)
        {
            if (!used.Contains(type)) continue;
            xml.Append($"<flags id=\"{type}\" size=\"{size}\">\n");
            foreach (string field in fields.Split(' '))
            {
                string[] parts = field.Split(':'), bits = parts[1].Split('-');
                xml.Append($"<field name=\"{parts[0]}\" start=\"{bits[0]}\" end=\"{bits[^1]}\"/>\n");
            }
            xml.Append("</flags>\n");
        }
        if (!used.Contains("vec128")) return;
        foreach ((string id, string element, int count) in s_vectors)
            xml.Append($"<vector id=\"{id}\" type=\"{element}\" count=\"{count}\"/>\n");
        xml.Append("<union id=\"vec128\">\n");
        foreach ((string id, string element, int count) in s_vectors)
            xml.Append($"<field name=\"v{count}_{element.Replace("ieee_single", "float", StringComparison.Ordinal)
                .Replace("ieee_double", "double", StringComparison.Ordinal)}\" type=\"{id}\"/>\n");
        xml.Append("<field name=\"uint128\" type=\"uint128\"/>\n</union>\n");
    }
}
