using Qkvm.Img.Commands;

namespace Qkvm.Img;

/// <summary>All subcommands: a new one is a file and a line here.</summary>
static class SubcommandCatalogue
{
    public static readonly Subcommand[] All =
    [
        Amend.Command,
        Bench.Command,
        Bitmap.Command,
        Check.Command,
        Commit.Command,
        Compare.Command,
        Commands.Convert.Command,
        Create.Command,
        Dd.Command,
        Info.Command,
        Map.Command,
        Measure.Command,
        Snapshot.Command,
        Rebase.Command,
        Resize.Command,
    ];
}
