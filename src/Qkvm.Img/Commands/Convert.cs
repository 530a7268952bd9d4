using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Img.Copying;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Images;

namespace Qkvm.Img.Commands;

/// <summary>convert: copies a disk into an image of another kind.</summary>
static class Convert
{
    const int SectorSize = 512, MaxSparse = 16 << 20, DefaultSparse = 4096, MaxWorkers = 16;

    static readonly Option TargetImageOpts = new('\0', "target-image-opts"), TargetIsZero = new('\0', "target-is-zero"),
        Bitmaps = new('\0', "bitmaps"), SkipBroken = new('\0', "skip-broken-bitmaps"), CopyOffload = new('C', null),
        Compressed = new('c', "compress"), NoCreation = new('n', "no-create"), BackingFile = new('B', "backing", true),
        Sparse = new('S', "sparse-size", true), Workers = new('m', "parallel", true), OutOfOrder = new('W', "oob"),
        Salvage = new('\0', "salvage");

    public static readonly Subcommand Command = new("convert",
        "[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps] [-U] [-C] [-c] " +
            "[-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] " +
            "[-o options] [-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] [--salvage] " +
            "filename [filename2 [...]] output_filename",
        [
            Option.Object, Option.ImageOpts, TargetImageOpts, TargetIsZero, Bitmaps, SkipBroken, Option.ForceShare,
            CopyOffload, Compressed, Option.Progress, Progress.Json, Option.Quiet, NoCreation, Option.Format,
            Option.Cache, Option.SourceCache, Option.TargetFormat, BackingFile, Option.BackingFormat, Option.Options,
            Option.Snapshot, Sparse, Option.RateLimit, Workers, OutOfOrder, Salvage,
        ], RunAsync);

    static async Task<int> RunAsync(Tool tool, Arguments arguments)
    {
        var request = new ConvertRequest(tool, arguments);
        if (request.WritesHelp()) return 0;
        List<BlockDriver> sources = await request.OpenSourcesAsync().ConfigureAwait(false);
        long total = sources.Sum(source => source.Length);
        if (arguments.Has(Bitmaps) && !arguments.Has(SkipBroken)) CheckBitmaps(tool, sources[0]);
        using var progress = new Progress(tool, arguments, total); // whoever sees the target may ask
        if (arguments.Has(NoCreation))
        {
            await CopyAsync(request, sources, total, request.OpenExisting(total), progress).ConfigureAwait(false);
            return 0;
        }
        ImageCreation creation = request.Creation();
        await using TargetFile target = request.NewTarget();
        await request.CreateAsync(creation, target, total).ConfigureAwait(false);
        BlockDriver node = request.OpenNew(target);
        await CopyAsync(request, sources, Math.Min(total, node.Length), node, progress).ConfigureAwait(false);
        await tool.CloseAsync(node).ConfigureAwait(false);
        await target.FinishAsync().ConfigureAwait(false);
        return 0;
    }

    static async Task CopyAsync(ConvertRequest request, List<BlockDriver> sources, long total, BlockDriver target,
        Progress progress)
    {
        (Tool tool, Arguments arguments) = (request.Tool, request.Arguments);
        if (request.IsCompressed && target is not ICompressedWrites)
            throw new ToolException("Compression not supported for this file format");
        progress.Report(0);
        bool isCompressed = request.IsCompressed || target is ICompressedWrites { IsCompressedOnly: true };
        var plan = new CopyPlan(sources, target, total)
        {
            TargetIsZero = await request.IsZeroAsync(target).ConfigureAwait(false),
            Backing = request.BackingLength(target),
            Sparse = request.Sparse, UsesCopyRange = arguments.Has(CopyOffload), IsCompressed = isCompressed,
            IsUnordered = arguments.Has(OutOfOrder),
            Workers = request.Workers ?? CopyPlan.WorkersFor(sources, target, isCompressed),
            Salvage = !arguments.Has(Salvage) ? null : line => { if (!arguments.Has(Option.Quiet))
                tool.Error($"warning: {line}"); },
            Limit = new CopyLimit(request.Rate),
        };
        if (total > 0) new Copier(plan, progress.Report).Run();
        if (arguments.Has(Bitmaps)) await CopyBitmapsAsync(tool, sources[0], target).ConfigureAwait(false);
        await target.FlushAsync().ConfigureAwait(false);
        progress.End();
    }

    static void CheckBitmaps(Tool tool, BlockDriver source)
    {
        if ((source as IBitmaps)?.Bitmaps.FirstOrDefault(b => b.IsInconsistent) is { } broken)
            throw new ToolException($"Cannot copy inconsistent bitmap '{broken.Name}'\n" +
                $"Try --skip-broken-bitmaps, or use '{tool.Program} bitmap --remove' to delete it");
    }

    static ValueTask CopyBitmapsAsync(Tool tool, BlockDriver source, BlockDriver target)
    {
        if (source is not IBitmaps { Bitmaps: { Count: > 0 } all }) return default;
        if (target is not IBitmaps image)
            throw new ToolException($"Format driver '{target.FormatName}' does not support bitmaps");
        foreach (IBitmap bitmap in all)
        {
            if (bitmap.IsInconsistent)
            {
                tool.Error($"warning: Skipping inconsistent bitmap '{bitmap.Name}'");
                continue;
            }
            IBitmap copy = image.AddBitmap(bitmap.Name, bitmap.Granularity);
            copy.Join(bitmap);
            copy.IsEnabled = bitmap.IsEnabled;
        }
        return default;
    }

    /// <summary>What the options ask for, checked before anything is opened.</summary>
    sealed class ConvertRequest
    {
        readonly string _format;
        readonly Options _given;
        readonly OptionPair[] _own;                                // also said where the new image is opened
        readonly string? _backing;
        readonly CacheMode _cache, _sourceCache;
        readonly string _output;

        public ConvertRequest(Tool tool, Arguments arguments)
        {
            (Tool, Arguments) = (tool, arguments);
            _format = arguments.Text(Option.TargetFormat) ?? "raw";
            _given = CreateOptions.Parse(arguments);
            _own = [.. _given.Rest.Where(o => o.Name is "key-secret" or "encrypt.format" or "encrypt.key-secret")];
            Sparse = arguments.Text(Convert.Sparse) is not { } sparse ? DefaultSparse
                : (int)Tool.Size("buffer size for sparse output", sparse) is var bytes && bytes is >= 0 and <= MaxSparse
                    && bytes % SectorSize == 0 ? bytes
                : throw new ToolException("Invalid buffer size for sparse output specified. Valid sizes are " +
                    $"multiples of {SectorSize} up to {MaxSparse}. Select 0 to disable sparse detection (fully " +
                    "allocates output).");
            Rate = arguments.Text(Option.RateLimit) is { } rate ? Tool.Size("rate limit", rate) : 0;
            Workers = arguments.Text(Convert.Workers) is not { } workers ? null
                : int.TryParse(workers, out int count) && count is >= 1 and <= MaxWorkers ? count
                : throw new ToolException("Invalid number of coroutines. Allowed number of coroutines is between 1 " +
                    $"and {MaxWorkers}");
            if (arguments.Has(Option.ImageOpts) && arguments.Has(Option.Format))
                throw new ToolException("--image-opts and --format are mutually exclusive");
            if (arguments.Has(TargetImageOpts) && !arguments.Has(NoCreation))
                throw new ToolException("--target-image-opts requires use of -n flag");
            if (arguments.Has(TargetIsZero) && !arguments.Has(NoCreation))
                throw new ToolException("--target-is-zero requires use of -n flag");
            if (arguments.Has(SkipBroken) && !arguments.Has(Bitmaps))
                throw new ToolException("Use of --skip-broken-bitmaps requires --bitmaps");
            if (arguments.Has(CopyOffload) && arguments.Has(Compressed))
                throw new ToolException("Cannot enable copy offloading when -c is used");
            if (arguments.Has(CopyOffload) && arguments.Has(Convert.Sparse))
                throw new ToolException("Cannot enable copy offloading when -S is used");
            _cache = tool.Cache(arguments, Option.Cache, "unsafe");
            _sourceCache = tool.Cache(arguments, Option.SourceCache, "writeback", "source cache option");
            _backing = arguments.Text(BackingFile);
            if (arguments.Names.Count < 2 && !CreateOptions.WantsHelp(_given))
                throw new ToolException("Must specify image file name");
            _output = arguments.Names.Count > 0 ? arguments.Names[^1] : "";
        }

        public Tool Tool { get; }
        public Arguments Arguments { get; }
        public int Sparse { get; }
        public int? Workers { get; }
        public long Rate { get; }
        public bool IsCompressed => Arguments.Has(Compressed);

        public bool WritesHelp()
        {
            if (!CreateOptions.WantsHelp(_given)) return false;
            ImageCreation creation = CreateOptions.Creation(Tool, _format);
            CreateOptions.WriteHelp(Tool.Output, "Supported options:", creation.Properties);
            return true;
        }

        public async Task<List<BlockDriver>> OpenSourcesAsync()
        {
            var sources = new List<BlockDriver>();
            foreach (string name in Arguments.Names.SkipLast(1))
                sources.Add(Tool.Open(Arguments, name, new ImageOpening { Cache = _sourceCache }));
            if (Arguments.Text(Option.Snapshot) is not { } snapshot) return sources;
            if (sources.Count > 1) throw new ToolException("No support for concatenating multiple snapshot");
            await SnapshotChoice.ShowAsync(sources[0], snapshot).ConfigureAwait(false);
            return sources;
        }

        /// <summary>The format of the target, with what the options say of its backing file.</summary>
        public ImageCreation Creation()
        {
            ImageCreation creation = CreateOptions.Creation(Tool, _format);
            if (_backing != null) AddBacking(creation, "backing_file", "Backing file", _backing);
            if (Arguments.Text(Option.BackingFormat) is { } format)
                AddBacking(creation, "backing_fmt", "Backing file format", format);
            if (_given.Has("backing_file") && Arguments.Names.Count > 2)
                throw new ToolException("Having a backing file for the target makes no sense when concatenating " +
                    "multiple input images");
            if (_given.Has("backing_file") && !_given.Has("backing_fmt") && creation.Find("backing_file") != null)
                throw new ToolException("Use of backing file requires explicit backing format");
            if (IsCompressed && !Tool.Drivers.Find(_format)!.CanCompress)
                throw new ToolException("Compression not supported for this file format");
            if (Arguments.Has(Bitmaps) && !Tool.Drivers.Find(_format)!.KeepsBitmaps)
                throw new ToolException($"Format driver '{_format}' does not support bitmaps");
            return creation;
        }

        void AddBacking(ImageCreation creation, string option, string what, string value)
        {
            if (creation.Find(option) == null)
                throw new ToolException($"{what} not supported for file format '{_format}'");
            _given.Add(option, value);
        }

        public TargetFile NewTarget()
        {
            try { return new TargetFile(Tool, _output); }
            catch (ToolException e)
            {
                string prefix = $"Could not open '{_output}': ";
                throw Failed(e.Message.StartsWith(prefix, StringComparison.Ordinal) ? e.Message[prefix.Length..]
                    : e.Message);
            }
        }

        public async Task CreateAsync(ImageCreation creation, TargetFile target, long total)
        {
            if (!_given.Has("size")) _given.Add("size", $"{total}");
            Properties options = CreateOptions.Check(creation, _given, "");
            if (IsCompressed && creation.Properties.Any(p => p.Name == "preallocation")
                && options.Text("preallocation") is not (null or "off"))
                throw new ToolException("Compression and preallocation not supported at the same time");
            try
            {
                target.Extents = await ImageMaker.CreateAsync(Tool.Factory, creation, _output, target.Place,
                    (long)options.Size("size"), options, _cache.NoFlush, target.Suffix).ConfigureAwait(false);
            }
            catch (ConfigurationException e)
            {
                throw Failed(e.Message.Replace($"'{target.Place}'", $"'{_output}'"));
            }
        }

        ToolException Failed(string why) => new($"{_output}: error while converting {_format}: {why}");

        public BlockDriver OpenNew(TargetFile target) =>
            Tool.Open(target.Place, new ImageOpening(_format)
            {
                IsWritable = true, Cache = _cache, Own = _own, Extents = target.Extents,
            });

        public BlockDriver OpenExisting(long total)
        {
            var how = new ImageOpening(Arguments.Has(TargetImageOpts) ? null : _format)
            {
                IsWritable = true, Cache = _cache,
            };
            BlockDriver node = Tool.Open(_output, how, Arguments.Has(TargetImageOpts));
            return node.Length >= total ? node : throw new ToolException("output file is smaller than input file");
        }

        /// <summary>A new file holds nothing but zeros; a device holds anything, and what was never encrypted becomes
        /// anything when it is decrypted.</summary>
        public async ValueTask<bool> IsZeroAsync(BlockDriver node)
        {
            if (BackingLength(node) != null) return false;
            if (Arguments.Has(NoCreation)) return Arguments.Has(TargetIsZero);
            if (HostFile.TryStatus(_output, out FileStatus status, out _) && status.IsBlockDevice) return false;
            for (long at = 0; node.Facts.IsEncrypted && at < node.Length;)
            {
                BlockStatus run = await node.StatusAsync(at, node.Length - at).ConfigureAwait(false);
                if (!run.IsZero) return false;
                at += run.Length;
            }
            return true;
        }

        public long? BackingLength(BlockDriver node) => !Arguments.Has(NoCreation) && _given.Has("backing_file")
            ? node.Below?.Length : null;
    }
}
