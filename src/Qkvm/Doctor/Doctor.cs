using System.Text;
using System.Text.Json;
using Qkvm.Control.Commands;

namespace Qkvm.Doctor;

/// <summary>qkvm doctor: what this host can do, and the commands that mend what it cannot.</summary>
static class Doctor
{
    public const string Word = "doctor";

    const string Usage = """
        usage: qkvm doctor [--json]
        Says what this host can do for guests, and how to mend what it cannot. Changes nothing.
          --json   for programs: {"version", "checks": [{"name", "health": "good"|"fair"|"missing", "text", "mend"}]}
        Ends with status 0, or with 1 if no guest can run here at all.
        """;

    /// <summary>Every check, by its name.</summary>
    public static readonly (string Name, Func<HostView, Finding> Look)[] Checks =
    [
        ("processor", ProcessorChecks.Processor),
        ("memory", ProcessorChecks.Memory),
        ("kvm", ProcessorChecks.Kvm),
        ("nested", ProcessorChecks.Nested),
        ("huge-pages", KernelChecks.HugePages),
        ("io_uring", KernelChecks.IoRing),
        ("limits", KernelChecks.Limits),
        ("tap", NetworkChecks.Tap),
        ("bridge", NetworkChecks.Bridge),
        ("vsock", NetworkChecks.Vsock),
        ("uefi", ProgramChecks.Uefi),
        ("tpm", ProgramChecks.Tpm),
        ("folders", ProgramChecks.SharedFolders),
        ("network-boot", ProgramChecks.NetworkBoot),
    ];

    /// <returns>The status to end with.</returns>
    public static int Run(string[] words, HostView host, TextWriter output, TextWriter errors, bool isColored)
    {
        switch (words)
        {
            case []: case ["--json"]: break;
            case ["-h" or "-help" or "--help"]:
                output.WriteLine(Usage);
                return 0;
            default:
                errors.WriteLine($"qkvm doctor {string.Join(' ', words)}: expects nothing, or --json");
                return 1;
        }
        (string Name, Finding Finding)[] findings = [.. Checks.Select(check => (check.Name, check.Look(host)))];
        if (words.Length > 0) output.WriteLine(Json(findings));
        else Print(findings, output, isColored);
        return findings[0].Finding.Health == Health.Missing ? 1 : 0;
    }

    static void Print((string Name, Finding Finding)[] findings, TextWriter output, bool isColored)
    {
        int width = findings.Max(f => f.Name.Length) + 2;
        foreach ((string name, Finding finding) in findings)
        {
            (string color, string mark) = finding.Health switch
            {
                Health.Good => ("32", "good   "), Health.Fair => ("33", "fair   "), _ => ("31", "missing"),
            };
            if (isColored) mark = $"\e[{color}m{mark}\e[0m";
            output.WriteLine($"{mark} {name.PadRight(width)}{finding.Text}");
            if (finding.Mend is { } mend) output.WriteLine($"{new string(' ', 8 + width)}{mend}");
        }
    }

    static string Json((string Name, Finding Finding)[] findings)
    {
        using var bytes = new MemoryStream();
        var options = new JsonWriterOptions
        {
            Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        };
        using (var json = new Utf8JsonWriter(bytes, options))
        {
            json.WriteStartObject();
            json.WriteString("version", ProgramVersion.Text);
            json.WriteStartArray("checks");
            foreach ((string name, Finding finding) in findings)
            {
                json.WriteStartObject();
                json.WriteString("name", name);
                json.WriteString("health", finding.Health.ToString().ToLowerInvariant());
                json.WriteString("text", finding.Text);
                if (finding.Mend is { } mend) json.WriteString("mend", mend);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        return Encoding.UTF8.GetString(bytes.ToArray());
    }
}
