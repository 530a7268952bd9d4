using System.Text.Json.Nodes;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>check: compares an image with itself, and may mend it.</summary>
static class Check
{
    const int Damaged = 2, Leaking = 3, NotSupported = 63;

    static readonly Option RepairOption = new('r', "repair", true);

    public static readonly Subcommand Command = new("check",
        "[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] " +
            "filename",
        [
            Option.Object, Option.ImageOpts, Option.Quiet, Option.Format, Option.Output, RepairOption,
            Option.SourceCache, Option.ForceShare,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        Repair repair = arguments.Text(RepairOption) switch
        {
            null => Repair.None,
            "leaks" => Repair.Leaks,
            "all" => Repair.All,
            string other => throw new ToolException(
                $"Unknown option value for -r (expecting 'leaks' or 'all'): {other}", hasHint: true),
        };
        bool wantsJson = tool.WantsJson(arguments);
        string name = tool.OneImage(arguments);
        CacheMode cache = tool.Cache(arguments, Option.SourceCache, "writeback", "source cache option");
        BlockDriver node = tool.Open(arguments, name,
            new ImageOpening { Cache = cache, IsWritable = repair != Repair.None, IsChecked = true });
        if (node is not ICheckable image)
        {
            tool.Error("This image format does not support checks");
            return NotSupported;
        }
        void report(string line) => tool.Errors.Write($"{line}\n");
        CheckResult found = await image.CheckAsync(repair, report).ConfigureAwait(false);
        if (found.LeaksFixed > 0 || found.CorruptionsFixed > 0)
        {
            if (!wantsJson)
                tool.Say("The following inconsistencies were found and repaired:\n\n" +
                    $"    {found.LeaksFixed} leaked clusters\n    {found.CorruptionsFixed} corruptions\n\n" +
                    "Double checking the fixed image now...\n");
            tool.Output.Flush();
            CheckResult again = await image.CheckAsync(Repair.None, report).ConfigureAwait(false);
            found = again with { LeaksFixed = found.LeaksFixed, CorruptionsFixed = found.CorruptionsFixed };
        }
        if (wantsJson) tool.Output.Write(JsonText.Of(Json(found, name, node.FormatName)));
        else tool.Say(Human(found));
        return found.CheckErrors > 0 ? 1 : found.Corruptions > 0 ? Damaged : found.Leaks > 0 ? Leaking : 0;
    }

    static string Human(CheckResult r)
    {
        string text = r is { CheckErrors: 0, Corruptions: 0, Leaks: 0 } ? "No errors were found on the image.\n" : "";
        if (r.Corruptions > 0)
            text += $"\n{r.Corruptions} errors were found on the image.\n" +
                "Data may be corrupted, or further writes to the image may corrupt it.\n";
        if (r.Leaks > 0)
            text += $"\n{r.Leaks} leaked clusters were found on the image.\n" +
                "This means waste of disk space, but no harm to data.\n";
        if (r.CheckErrors > 0) text += $"\n{r.CheckErrors} internal errors have occurred during the check.\n";
        if (r is { TotalClusters: > 0 and var total, AllocatedClusters: > 0 and var allocated })
            text += FormattableString.Invariant($"{allocated}/{total} = {allocated * 100.0 / total:F2}% allocated, ") +
                FormattableString.Invariant($"{(r.FragmentedClusters ?? 0) * 100.0 / allocated:F2}% fragmented, ") +
                FormattableString.Invariant($"{(r.CompressedClusters ?? 0) * 100.0 / allocated:F2}% compressed ") +
                "clusters\n";
        if (r.ImageEndOffset > 0) text += $"Image end offset: {r.ImageEndOffset}\n";
        return text;
    }

    static JsonObject Json(CheckResult r, string name, string format)
    {
        var json = new JsonObject { ["filename"] = name, ["format"] = format, ["check-errors"] = r.CheckErrors };
        void add(string key, long? count)
        {
            if (count is > 0) json[key] = count;
        }
        add("image-end-offset", r.ImageEndOffset);
        add("corruptions", r.Corruptions);
        add("leaks", r.Leaks);
        add("corruptions-fixed", r.CorruptionsFixed);
        add("leaks-fixed", r.LeaksFixed);
        add("total-clusters", r.TotalClusters);
        add("allocated-clusters", r.AllocatedClusters);
        add("fragmented-clusters", r.FragmentedClusters);
        add("compressed-clusters", r.CompressedClusters);
        return json;
    }
}
