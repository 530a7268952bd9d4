using Qkvm.Core.Block;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Counts anew what an image with lazy refcounts left uncounted when it was not closed cleanly.</summary>
static class Qcow2Repair
{
    public static void RebuildRefcounts(Qcow2Store store, Qcow2Extensions extensions)
    {
        var references = new Qcow2References(store, extensions, static what => throw Hopeless(what));
        references.CountAll();
        foreach (long block in references.Blocks.ToArray())
        {
            long first = block << store.Layout.RefcountBlockBits;
            if (!store.Refcounts.HasBlock(first))
            {
                if (references[first] != 0) throw Hopeless("a refcount block is missing");
                store.Refcounts.EnsureBlock(first);
                references.SetOwnBlock(block);
            }
            for (long i = 0; i < store.Layout.RefcountsPerBlock; i++)
            {
                uint count = references[first + i];
                if (count > store.Refcounts.MaxRefcount)
                    throw Hopeless($"cluster {first + i} is used more often than its refcount can say");
                if (store.Refcounts.Get(first + i) != count) store.Refcounts.Set(first + i, count);
            }
        }
    }

    static BlockException Hopeless(string what) =>
        new($"it was not closed cleanly, and {what}; run qemu-img check -r all", Errno.Io);
}
