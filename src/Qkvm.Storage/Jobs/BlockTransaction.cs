using System.Numerics;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Machine;

namespace Qkvm.Storage.Jobs;

/// <summary>Several changes at one moment of all the disks that they concern; where one fails, those before it are
/// undone.</summary>
sealed class BlockTransaction(BlockJobs blockJobs, BlockGraph graph)
{
    const int DefaultGranularity = 64 << 10, MinGranularity = 512, MaxNameLength = 1023;

    readonly List<(BlockDriver? Node, Func<ValueTask<Func<ValueTask>>> Run)> _steps = [];
    readonly List<Func<ValueTask>> _undo = [];
    readonly List<Job> _jobs = [];

    /// <summary>To be started when all is done.</summary>
    public IReadOnlyList<Job> Jobs => _jobs;

    static Func<ValueTask> Undo(Action undo) => () =>
    {
        undo();
        return default;
    };

    /// <summary>Finds what the actions speak of. Under the machine lock.</summary>
    public void Prepare(IReadOnlyList<BlockAction> actions)
    {
        foreach (BlockAction action in actions)
            switch (action)
            {
                case SnapshotAction one:
                    AddSnapshot(graph.Find(one.Node), () => graph.Find(one.Overlay));
                    break;
                case SnapshotSyncAction one: AddNewSnapshot(one); break;
                case InternalSnapshotAction one: AddInternalSnapshot(one); break;
                case BackupAction one: AddBackup(one.Request); break;
                case BitmapAddAction one: AddStep(one.Node, node => AddBitmap(node, one)); break;
                case BitmapRemoveAction one: AddStep(one.Node, node => RemoveBitmap(node, one.Name)); break;
                case BitmapClearAction one: AddStep(one.Node, node => Change(node, one.Name, static b => b.Clear()));
                    break;
                case BitmapEnableAction one: AddStep(one.Node, node => Enable(node, one)); break;
                case BitmapMergeAction one:
                    AddStep(one.Node, node => Change(node, one.Target, b => Merge(b, node, one)));
                    break;
                default:
                    AddRun(null, static () => throw new CommandException("Transaction aborted using Abort action"));
                    break;
            }
    }

    void AddRun(BlockDriver? node, Func<ValueTask<Func<ValueTask>>> run) => _steps.Add((node, run));

    void AddStep(string name, Func<BlockDriver, Action> step)
    {
        BlockDriver node = graph.Find(name);
        AddRun(node, () => new(Undo(step(node))));
    }

    /// <summary>While the graph stands still, on a thread that may wait.</summary>
    public async ValueTask RunAsync()
    {
        Action resume = await BlockGraph.PauseAsync(_steps.Select(step => step.Node).OfType<BlockDriver>())
            .ConfigureAwait(false);
        try
        {
            foreach ((_, Func<ValueTask<Func<ValueTask>>> run) in _steps)
                _undo.Add(await run().ConfigureAwait(false));
        }
        catch
        {
            _undo.Reverse();
            foreach (Func<ValueTask> undo in _undo) await undo().ConfigureAwait(false);
            throw;
        }
        finally { resume(); }
    }

    void AddSnapshot(BlockDriver node, Func<BlockDriver> find) => AddRun(node, async () =>
    {
        BlockDriver overlay = find();
        if (overlay is not IOverlay over) throw new CommandException("The overlay does not support backing images");
        if (overlay.Edges.Count > 0) throw new CommandException("The overlay is already in use");
        if (overlay.Below != null) throw new CommandException("The overlay already has a backing image");
        if (overlay.Length < node.Length) throw new CommandException("The overlay is smaller than the node");
        await BlockGraph.ReplaceAsync(node, overlay).ConfigureAwait(false);
        try
        {
            over.SetBacking(node);
            await node.SetReadOnlyAsync(true).ConfigureAwait(false);
        }
        catch
        {
            await TakeBackAsync(node, overlay, over).ConfigureAwait(false);
            throw;
        }
        return () => TakeBackAsync(node, overlay, over);
    });

    static async ValueTask TakeBackAsync(BlockDriver node, BlockDriver overlay, IOverlay over)
    {
        over.SetBacking(null);
        await node.SetReadOnlyAsync(false).ConfigureAwait(false);
        await BlockGraph.ReplaceAsync(overlay, node).ConfigureAwait(false);
    }

    void AddNewSnapshot(SnapshotSyncAction action)
    {
        BlockDriver node = graph.Find(action.Device);
        BlockDriver? made = null;
        AddRun(null, async () =>
        {
            made = await graph.Factory.MakeOverlayAsync(node, action.File, action.Format, action.NodeName,
                action.IsExisting).ConfigureAwait(false);
            return () => made.DisposeAsync();
        });
        AddSnapshot(node, () => made!);
    }

    void AddBackup(BackupRequest request)
    {
        (request, BlockDriver source) = blockJobs.Check(request);
        AddRun(source, async () =>
        {
            BackupJob job = await blockJobs.BackupAsync(request, source).ConfigureAwait(false);
            try { await job.PrepareAsync().ConfigureAwait(false); }
            catch
            {
                await job.ForgetAsync().ConfigureAwait(false);
                throw;
            }
            _jobs.Add(job);
            return job.ForgetAsync;
        });
    }

    void AddInternalSnapshot(InternalSnapshotAction action)
    {
        BlockDriver node = graph.Find(action.Device);
        AddRun(node, async () =>
        {
            string device = action.Device;
            if (node.IsReadOnly) throw new CommandException($"Device '{device}' is read only");
            if (node is not ISnapshots image) throw new CommandException(
                $"Block format '{node.FormatName}' used by device '{device}' does not support internal snapshots");
            if (action.Name.Length == 0) throw new CommandException("Name is empty");
            if (node.Facts.Snapshots?.Any(one => one.Name == action.Name) == true)
                throw new CommandException($"Snapshot with name '{action.Name}' already exists on device '{device}'");
            long now = DateTime.UtcNow.Ticks - DateTime.UnixEpoch.Ticks;
            await image.CreateSnapshotAsync(new BlockSnapshot("", action.Name, 0, (uint)(now / TimeSpan.TicksPerSecond),
                (uint)(now % TimeSpan.TicksPerSecond) * 100, action.VmClock, null)).ConfigureAwait(false);
            string id = node.Facts.Snapshots!.Last(one => one.Name == action.Name).Id;
            return () => image.DeleteSnapshotAsync(id);
        });
    }

    // Bitmaps

    public static IBitmap FindBitmap(BlockDriver node, string name) =>
        node.DirtyBitmaps.FirstOrDefault(bitmap => bitmap.Name == name)
        ?? throw new CommandException($"Dirty bitmap '{name}' not found");

    static IBitmap Free(BlockDriver node, string name, bool mayBeInconsistent = false)
    {
        IBitmap bitmap = FindBitmap(node, name);
        if (bitmap.IsBusy) throw new CommandException($"Bitmap '{name}' is currently in use by another operation and "
            + "cannot be used");
        if (bitmap.IsInconsistent && !mayBeInconsistent)
            throw new CommandException($"Bitmap '{name}' is inconsistent and cannot be used\n"
                + "Try block-dirty-bitmap-remove to delete this bitmap from disk");
        return bitmap;
    }

    static Action AddBitmap(BlockDriver node, BitmapAddAction action)
    {
        if (action.Name.Length == 0) throw new CommandException("Bitmap name cannot be empty");
        if (action.Name.Length > MaxNameLength) throw new CommandException("Bitmap name too long");
        if (node.DirtyBitmaps.Any(one => one.Name == action.Name))
            throw new CommandException($"Bitmap already exists: {action.Name}");
        if (action.Granularity is { } bytes && (!int.IsPow2(bytes) || bytes < MinGranularity))
            throw new CommandException(bytes < MinGranularity ? "Granularity must be at least 512"
                : "Granularity must be power of 2");
        if (action.IsPersistent)
        {
            if (node is not IBitmaps image)
                throw new CommandException($"Cannot store dirty bitmaps in file '{node.FileName}'");
            IBitmap kept = image.AddBitmap(action.Name, action.Granularity);
            kept.IsEnabled = action.IsEnabled;
            return () => image.RemoveBitmap(kept);
        }
        int granularity = action.Granularity ?? DefaultGranularity;
        var made = new DirtyBitmap(action.Name, BitOperations.Log2((uint)granularity), node.Length)
        {
            IsEnabled = action.IsEnabled,
        };
        node.Follow(made);
        return () => node.Unfollow(made);
    }

    static Action RemoveBitmap(BlockDriver node, string name)
    {
        IBitmap bitmap = Free(node, name, mayBeInconsistent: true);
        if (bitmap is DirtyBitmap temporary && !bitmap.IsPersistent)
        {
            node.Unfollow(temporary);
            return () => node.Follow(temporary);
        }
        ((IBitmaps)node).RemoveBitmap(bitmap);
        return static () => { };
    }

    static Action Enable(BlockDriver node, BitmapEnableAction action)
    {
        IBitmap bitmap = Free(node, action.Name);
        bool was = bitmap.IsEnabled;
        bitmap.IsEnabled = action.IsEnabled;
        return () => bitmap.IsEnabled = was;
    }

    static Action Change(BlockDriver node, string name, Action<IBitmap> change)
    {
        IBitmap bitmap = Free(node, name);
        var before = new DirtyBitmap("", BitOperations.Log2((uint)bitmap.Granularity), node.Length);
        before.Join(bitmap);
        change(bitmap);
        return () =>
        {
            bitmap.Clear();
            bitmap.Join(before);
        };
    }

    void Merge(IBitmap target, BlockDriver node, BitmapMergeAction action)
    {
        foreach ((string? of, string name) in action.Sources)
        {
            BlockDriver from = of == null ? node : graph.Find(of);
            if (from.Length != node.Length)
                throw new CommandException($"Bitmaps are of different sizes (destination size is {node.Length}, "
                    + $"source size is {from.Length}) and cannot be merged");
            target.Join(Free(from, name));
        }
    }
}
