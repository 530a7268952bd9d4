using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Machine;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Drivers.Throttle;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>blockdev-reopen: nodes get other options while they are used, all of them or none. What is not said again
/// is as if it had never been.</summary>
/// <remarks>Deviations: another file= is taken of raw and throttle alone. While a job works with a node or an image
/// over it, what it lies over stays, also below the job's base, and its file keeps its cache mode.</remarks>
sealed class BlockReopening(BlockGraph graph, Catalogue<BlockDriverModel> drivers)
{
    /// <summary>Of every node.</summary>
    static readonly string[] s_reopenable = ["read-only", "auto-read-only", "discard", "detect-zeroes", "cache"];

    sealed record Change(BlockNode Node, Options Options, Surroundings Around, IReadOnlyList<OptionPair> Given)
    {
        /// <summary>Null: it stays.</summary>
        public BlockDriver? File { get; set; }
        public (bool IsSaid, BlockDriver? Node) Backing { get; set; }
    }

    readonly List<Change> _changes = [];
    readonly List<Func<ValueTask>> _undo = [];
    readonly List<BlockDriver> _left = [];                         // what was below, and is not any more

    /// <summary>Finds the nodes, and what cannot be changed. Under the machine lock.</summary>
    public void Prepare(IReadOnlyList<Options> nodes)
    {
        for (int i = 0; i < nodes.Count; i++) CheckNames(nodes[i], $"options[{i}].");
        foreach (Options options in nodes)
        {
            string name = options.Text("node-name") ?? throw new CommandException("node-name not specified");
            BlockNode node = graph.FindNode(name) as BlockNode
                ?? throw new CommandException($"Failed to find node with node-name='{name}'");
            Add(node, options, default(Surroundings) with { Cache = CacheMode.Default, Owner = options.Owner });
        }
    }

    void CheckNames(Options options, string path)
    {
        string driver = options.Text("driver") ?? throw new CommandException($"Parameter '{path}driver' is missing");
        BlockDriverModel model = drivers.Find(driver)
            ?? throw new CommandException($"Parameter '{path}driver' does not accept value '{driver}'");
        foreach (string name in options.Names)
            if (model.Properties.All(known => known.Name != name))
                throw new CommandException($"Parameter '{path}{name}' is unexpected");
        foreach (string needed in (ReadOnlySpan<string>)["file", "filename", "throttle-group"])
            if (model.Properties.Any(known => known.Name == needed) && !options.Has(needed))
                throw new CommandException($"Parameter '{path}{needed}' is missing");
    }

    void Add(BlockNode node, Options options, Surroundings around)
    {
        if (options.Text("driver") is { } driver && driver != node.FormatName)
            throw new CommandException("Cannot change the option 'driver'");
        around = around.For(options);
        BlockDriverModel model = drivers.Known(node.FormatName, options.Owner);
        CheckSame(node, model, options);
        var change = new Change(node, options, around, [.. options.All]);
        if (around.ReadOnly != node.IsReadOnly && !around.ReadOnly && BlockGraph.JobOver(node) is { } job)
            throw new CommandException($"Node '{node.NodeName}' is busy: block device is in use by {job.UserName}");
        if (Child(node, "file") is { } file) AddFile(change, file);
        if (node is IOverlay) AddBacking(change);
        _changes.Add(change);
    }

    /// <summary>What nobody can change is said as it was, or not at all.</summary>
    static void CheckSame(BlockNode node, BlockDriverModel model, Options options)
    {
        foreach (OptionPair pair in options.All)
        {
            string root = pair.Name.Split('.')[0];
            if (root is "driver" or "node-name" or "file" or "backing" || s_reopenable.Contains(root)
                || model.Reopenable.Contains(root)) continue;
            if (node.Given.All(given => given != pair))
                throw new CommandException($"Cannot change the option '{pair.Name}'");
        }
        if (options.Text("node-name") is { } name && name != node.NodeName)
            throw new CommandException("Cannot change the option 'node-name'");
    }

    void AddFile(Change change, BlockDriver file)
    {
        if (change.Options.Nested("file") is { } own)
        {
            if (file is BlockNode below) Add(below, own, change.Around with { Discard = true });
        }
        else if (change.Options.Text("file") is { } name && name != file.NodeName)
        {
            BlockDriver other = graph.Find(name);
            if (change.Node is not (RawDriver or ThrottleDriver))
                throw new CommandException("Cannot change the option 'file'");
            CheckCycle(change.Node, other, "file");
            change.File = other;
        }
    }

    void AddBacking(Change change)
    {
        (BlockNode node, Options options) = (change.Node, change.Options);
        if (options.Nested("backing") is { } own)
        {
            if (node.Below is not BlockNode below)
                throw new CommandException($"Cannot change the option 'backing.{own.Names.First()}'");
            Add(below, own, change.Around with { ReadOnly = true, Discard = false });
            return;
        }
        if (!options.Has("backing"))
        {
            if (node.Below != null || node.Facts.BackingFile != null)
                throw new CommandException($"backing is missing for '{node.NodeName}'");
            return;
        }
        BlockDriver? other = options.IsNull("backing") || options.Text("backing") is not { Length: > 0 } name ? null
            : graph.Find(name);
        if (other == node.Below) return;
        if (other != null) CheckCycle(node, other, "backing");
        if (node.Below is { } before && BlockGraph.JobOver(node) != null) throw new CommandException(
            $"Cannot change frozen 'backing' link from '{node.NodeName}' to '{before.NodeName}'");
        change.Backing = (true, other);
    }

    static void CheckCycle(BlockNode node, BlockDriver below, string role)
    {
        if (BlockGraph.WithAllBelow(below).Contains(node)) throw new CommandException(
            $"Making '{below.NodeName}' a {role} child of '{node.NodeName}' would create a cycle");
    }

    static BlockDriver? Child(BlockDriver node, string role) =>
        node.Children.FirstOrDefault(child => child.Role == role)?.Node;

    /// <summary>While the graph stands still, on a thread that may wait.</summary>
    public async ValueTask RunAsync()
    {
        Action resume = await BlockGraph.PauseAsync(_changes.Select(change => change.Node)).ConfigureAwait(false);
        try
        {
            // An image lets go of its file before that is for reading alone, and gets it after it is for writing.
            foreach (Change change in _changes.OrderByDescending(change => HeightOf(change.Node)))
                if (change.Around.ReadOnly) await SetReadOnlyAsync(change.Node, true).ConfigureAwait(false);
            foreach (Change change in _changes) await ApplyAsync(change).ConfigureAwait(false);
            foreach (Change change in _changes.OrderBy(change => HeightOf(change.Node)))
                if (change.Around is { ReadOnly: false, AutoReadOnly: false })
                    await SetReadOnlyAsync(change.Node, false).ConfigureAwait(false);
        }
        catch
        {
            _undo.Reverse();
            foreach (Func<ValueTask> undo in _undo) await undo().ConfigureAwait(false);
            throw;
        }
        finally { resume(); }
        foreach (BlockDriver node in _left) await BlockGraph.CloseUnusedAsync(node).ConfigureAwait(false);
    }

    static int HeightOf(BlockDriver node) =>
        1 + node.Children.Select(child => HeightOf(child.Node)).DefaultIfEmpty().Max();

    async ValueTask SetReadOnlyAsync(BlockNode node, bool isReadOnly)
    {
        if (node.IsReadOnly == isReadOnly) return;
        if (isReadOnly && (node.Use.Needs & (BlockRights.Write | BlockRights.WriteUnchanged)) != 0)
            throw new CommandException($"Read-only block node '{node.NodeName}' cannot support read-write users");
        if (!isReadOnly && Child(node, "file") is BlockNode { IsReadOnly: true } file && IsToldReadOnly(file))
            throw new CommandException("Block node is read-only");
        await node.SetReadOnlyAsync(isReadOnly).ConfigureAwait(false);
        _undo.Add(() => node.SetReadOnlyAsync(!isReadOnly));
    }

    static bool IsToldReadOnly(BlockNode node) =>
        node.Given.Any(pair => pair.Name == "read-only" && Options.ParseBool(pair.Value) == true);

    async ValueTask ApplyAsync(Change change)
    {
        BlockNode node = change.Node;
        IReadOnlyList<OptionPair> given = node.Given;
        (bool, DetectZeroes) treatment = node.Treatment;
        node.Treatment = (change.Around.Discard, change.Around.DetectZeroes);
        node.Given = change.Given;
        _undo.Add(() =>
        {
            (node.Given, node.Treatment) = (given, treatment);
            return default;
        });
        if (change.File is { } file)
        {
            BlockEdge edge = node.Children.First(static child => child.Role == "file");
            BlockDriver before = edge.Node;
            await edge.ReplaceAsync(file).ConfigureAwait(false);
            _undo.Add(() => edge.ReplaceAsync(before));
            _left.Add(before);
        }
        if (change.Backing is { IsSaid: true } backing)
        {
            IOverlay overlay = (IOverlay)node;
            BlockDriver? before = node.Below;
            overlay.SetBacking(backing.Node);
            _undo.Add(() =>
            {
                overlay.SetBacking(before);
                return default;
            });
            if (before != null) _left.Add(before);
        }
        // Its requests do not wait: only what is safe.
        if (!node.ChangesUnderJobs && BlockGraph.JobOver(node) != null) return;
        Action undo = node.Change(change.Options, change.Around);
        _undo.Add(() =>
        {
            undo();
            return default;
        });
    }
}
