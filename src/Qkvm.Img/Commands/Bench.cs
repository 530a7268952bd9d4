using System.Globalization;
using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Commands;

/// <summary>bench: how long so many requests take, one after the other and several at once.</summary>
static class Bench
{
    static readonly Option Count = new('c', "count", true), Depth = new('d', "depth", true),
        FlushInterval = new('\0', "flush-interval", true), Aio = new('i', "aio", true), Native = new('n', "native"),
        NoDrain = new('\0', "no-drain"), Offset = new('o', "offset", true), Pattern = new('\0', "pattern", true),
        BufferSize = new('s', "buffer-size", true), StepSize = new('S', "step-size", true),
        Write = new('w', "write");

    public static readonly Subcommand Command = new("bench",
        "[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] [--no-drain] [-o offset] " +
            "[--pattern=pattern] [-q] [-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename",
        [
            Count, Depth, Option.Format, FlushInterval, Aio, Native, NoDrain, Offset, Pattern, Option.Quiet, BufferSize,
            StepSize, Option.Cache, Write, Option.ForceShare, Option.ImageOpts,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        bool isWrite = arguments.Has(Write);
        var plan = new BenchPlan
        {
            IsWrite = isWrite,
            Count = (int)Whole(arguments, Count, 75_000, 0, int.MaxValue, "request count"),
            Depth = (int)Whole(arguments, Depth, 64, 1, int.MaxValue, "queue depth"),
            FlushInterval = (int)Whole(arguments, FlushInterval, 0, 0, int.MaxValue, "flush interval"),
            Drains = !arguments.Has(NoDrain),
            Offset = arguments.Text(Offset) is { } at ? Tool.Size("offset", at) : 0,
            Pattern = (byte)Whole(arguments, Pattern, 0, 0, byte.MaxValue, "pattern byte"),
            Size = arguments.Text(BufferSize) is { } size ? (int)Tool.Size("buffer size", size, 0, int.MaxValue) : 4096,
            Step = arguments.Text(StepSize) is { } step ? Tool.Size("step_size", step, 0, int.MaxValue) : 0,
        };
        if (plan.Step == 0) plan = plan with { Step = plan.Size };
        string? aio = arguments.Text(Aio) ?? (arguments.Has(Native) ? "native" : null);
        plan = plan with
        {
            Aio = aio switch
            {
                null or "native" => BenchAio.Automatic,
                "threads" => BenchAio.Threads,
                "io_uring" => BenchAio.Ring,
                _ => throw new ToolException($"Invalid aio option: {aio}"),
            },
        };
        CacheMode cache = CacheMode.Find(arguments.Text(Option.Cache) ?? "writeback")
            ?? throw new ToolException("Invalid cache mode");
        string name = tool.OneImage(arguments);
        if (!isWrite && plan.FlushInterval > 0)
            throw new ToolException("--flush-interval is only available in write tests");
        if (plan.FlushInterval > 0 && plan.FlushInterval < plan.Depth)
            throw new ToolException("Flush interval can't be smaller than depth");
        if (aio == "native" && !cache.Direct)
            throw new ToolException($"Could not open '{name}': aio=native was specified, but it requires " +
                "cache.direct=on, which was not specified.");
        if (aio == "native")
            throw new ToolException("aio=native (Linux AIO) is not built; give -i io_uring, which does as much, or "
                + "-i threads");
        BlockDriver node = tool.Open(arguments, name, new ImageOpening { IsWritable = isWrite, Cache = cache });
        tool.Output.Write($"Sending {plan.Count} {(isWrite ? "write" : "read")} requests, {plan.Size} bytes each, " +
            $"{plan.Depth} in parallel (starting at offset {plan.Offset}, step size {plan.Step})\n");
        if (plan.FlushInterval > 0)
            tool.Output.Write($"Sending flush every {plan.FlushInterval} requests\n");
        tool.Output.Flush();
        TimeSpan took = await BenchRun.RunAsync(node, plan).ConfigureAwait(false);
        string seconds = took.TotalSeconds.ToString("F3", CultureInfo.InvariantCulture);
        tool.Output.Write($"Run completed in {seconds} seconds.\n");
        return 0;
    }

    static long Whole(Arguments arguments, Option option, long fallback, long min, long max, string what) =>
        arguments.Text(option) is not { } text ? fallback
            : Properties.TryParseNumber(text, out ulong value) && value >= (ulong)min && value <= (ulong)max
                ? (long)value : throw new ToolException($"Invalid {what} specified");
}
