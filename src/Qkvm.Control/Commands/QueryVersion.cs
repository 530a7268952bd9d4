using System.Text.Json.Serialization;

namespace Qkvm.Control.Commands;

/// <summary>The release of QEMU whose commands and machines are spoken.</summary>
public sealed record VersionTriple(int Major, int Minor, int Micro);

/// <param name="Package">Who made it: this program and its own version.</param>
public sealed record VersionInfo(VersionTriple Qemu, string Package);

/// <summary>query-version, and what QMP's greeting says.</summary>
static class QueryVersion
{
    public static readonly VersionInfo Info = new(new VersionTriple(7, 2, 0), $"qkvm {ProgramVersion.Text}");

    public static readonly Command Command =
        new Command<Nothing, VersionInfo>("query-version", VersionJson.Default, (_, _) => Info)
    {
        Human = new("info version", "", "show the version of qkvm", null,
            (monitor, _) => monitor.Write($"{ProgramVersion.Text}\n")),
    };
}

/// <summary>The version that banners and `info version` show.</summary>
public static class ProgramVersion
{
    public static string Text { get; } = typeof(ProgramVersion).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
}

[JsonSerializable(typeof(VersionInfo))]
sealed partial class VersionJson : JsonSerializerContext;
