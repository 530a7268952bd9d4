using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Compares refcounts with what the tables say, and mends them.</summary>
public sealed partial class Qcow2Driver : ICheckable
{
    /// <inheritdoc/>
    public ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report)
    {
        lock (_store.Sync)
        {
            if (IsReadOnly) _store.Refcounts.Load();              // reading needs none
            return new(new Qcow2Check(_store, Info.Extensions, repair, report).Run());
        }
    }
}

/// <summary>One check of an image.</summary>
sealed class Qcow2Check(Qcow2Store store, Qcow2Extensions extensions, Repair repair, Action<string> report)
{
    readonly Qcow2Layout _layout = store.Layout;
    long _corruptions, _leaks, _corruptionsFixed, _leaksFixed, _highest;

    bool MendsErrors => (repair & Repair.Errors) != 0;
    bool MendsLeaks => (repair & Repair.Leaks) != 0;

    public CheckResult Run()
    {
        var references = new Qcow2References(store, extensions, what =>
        {
            report(what);
            _corruptions++;
        });
        references.CountAll();
        if (repair != Repair.None) store.IsRepairing = true;
        try
        {
            CompareCounts(references);
            CheckOwnership(references);
            if (repair != Repair.None) Finish();
        }
        finally { store.IsRepairing = false; }
        return new CheckResult(0, _corruptions, _leaks, _corruptionsFixed, _leaksFixed,
            (_highest + 1) << _layout.ClusterBits,
            (store.Header.Size + _layout.ClusterSize - 1) >> _layout.ClusterBits, references.Allocated,
            references.Fragmented, references.Compressed);
    }

    void CompareCounts(Qcow2References references)
    {
        long clusters = (store.File.Length + _layout.ClusterSize - 1) >> _layout.ClusterBits;
        var blocks = new SortedSet<long>(references.Blocks);
        for (int i = 0; i < store.Refcounts.Table.Length; i++)
            if (store.Refcounts.Table[i] != 0) blocks.Add(i);
        foreach (long block in blocks)
        {
            long first = block << _layout.RefcountBlockBits;
            for (long cluster = first; cluster < Math.Min(clusters, first + _layout.RefcountsPerBlock); cluster++)
            {
                ulong count = store.Refcounts.Get(cluster);
                uint used = references[cluster];
                if (count != 0 || used != 0) _highest = Math.Max(_highest, cluster);
                if (count != used) Compare(references, cluster, count, used);
            }
        }
    }

    void Compare(Qcow2References references, long cluster, ulong count, uint used)
    {
        bool isLeak = count > used, mends = isLeak ? MendsLeaks : MendsErrors;
        report($"{(mends ? "Repairing" : isLeak ? "Leaked" : "ERROR")} cluster {cluster} refcount={count} "
            + $"reference={used}");
        if (mends && used <= store.Refcounts.MaxRefcount && HasPlace(references, cluster))
        {
            store.Refcounts.Set(cluster, references[cluster]);
            if (isLeak) _leaksFixed++;
            else _corruptionsFixed++;
        }
        else if (isLeak) _leaks++;
        else _corruptions++;
    }

    /// <summary>A missing refcount block lies at the start of what it describes, if nothing else does.</summary>
    bool HasPlace(Qcow2References references, long cluster)
    {
        if (store.Refcounts.HasBlock(cluster)) return true;
        long block = cluster >> _layout.RefcountBlockBits, first = block << _layout.RefcountBlockBits;
        if (references[first] != 0) return false;
        store.Refcounts.EnsureBlock(cluster);
        references.SetOwnBlock(block);
        return true;
    }

    /// <summary>COPIED says that a cluster's refcount is one.</summary>
    void CheckOwnership(Qcow2References references)
    {
        foreach ((string what, long cluster, bool isCopied) in store.Mapping.Ownership())
        {
            ulong count = MendsErrors ? references[cluster] : store.Refcounts.Get(cluster);
            if (count == 1 == isCopied) continue;
            report($"{(MendsErrors ? "Repairing" : "ERROR")} OFLAG_COPIED {what} refcount={count}");
            if (MendsErrors) _corruptionsFixed++;
            else _corruptions++;
        }
        if (MendsErrors) store.Mapping.OwnAll();
    }

    /// <summary>What is on disk is sound again.</summary>
    void Finish()
    {
        store.WriteBack();
        store.FlushFile();
        ulong bits = store.Header.Incompatible;
        if (_corruptions == 0) bits &= ~Qcow2Features.Corrupt;
        if (_corruptions == 0 && MendsErrors) bits &= ~Qcow2Features.Dirty;
        if (bits == store.Header.Incompatible) return;
        store.SetFeature(Qcow2Header.IncompatibleAt, store.Header.Incompatible = bits);
        store.FlushFile();
    }
}
