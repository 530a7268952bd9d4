using Qkvm.Storage.Drivers.Vvfat;

namespace Qkvm.Storage.Drivers.CloudInit;

/// <summary>A floppy of 1.44 MB without partitions, for guests that read no CDs.</summary>
static class FatSeed
{
    public static byte[] Make(IReadOnlyList<SeedFile> files)
    {
        FatGeometry geometry = FatGeometry.Of(12, isFloppy: true);
        string label = Seed.Label.ToUpperInvariant();              // which FAT has, and cloud-init knows
        var tree = new FatTree([.. files.Select(file => (file.Name, file.Data))], geometry, label);
        var volume = new FatVolume(geometry, tree, label);
        var image = new byte[geometry.Total * FatGeometry.Sector];
        for (int sector = 0; sector < geometry.DataStart; sector++)
            volume.Read(sector, image.AsSpan(sector * FatGeometry.Sector, FatGeometry.Sector));
        foreach (FatRun run in tree.Runs)
            run.Data!.CopyTo(image, (geometry.DataStart * FatGeometry.Sector) + (run.First - 2) * geometry.ClusterSize);
        return image;
    }
}
