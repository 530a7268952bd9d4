using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Images;

/// <summary>Makes images: the file, and what a format writes onto it.</summary>
public static class ImageMaker
{
    const int SectorSize = 512;

    /// <param name="path">As typed: what the image calls itself.</param>
    /// <param name="place">Where the file is made, if elsewhere for now; null for there.</param>
    /// <param name="suffix">Behind the names of the image's other files, for now.</param>
    /// <param name="size">Bytes; the last sector is made whole.</param>
    /// <param name="noFlush">Nobody waits for the disk.</param>
    /// <exception cref="ConfigurationException">It cannot be made; what was not there before is gone again.</exception>
    /// <returns>The image's other files.</returns>
    public static async Task<IReadOnlyList<NewExtent>> CreateAsync(BlockFactory factory, ImageCreation creation,
        string path, string? place, long size, Properties options, bool noFlush = false, string suffix = "")
    {
        if (size > long.MaxValue - SectorSize) throw new ConfigurationException($"An image cannot have {size} bytes");
        place ??= path;
        bool isNew = !HostFile.TryStatus(place, out _, out _);
        NewImage? image = null;
        try
        {
            await using FileDriver file = factory.CreateFile(place, noFlush);
            file.AllowGrowth();
            long whole = (size + SectorSize - 1) / SectorSize * SectorSize;
            image = new NewImage(factory, path, file, whole, options, suffix);
            await creation.CreateAsync(image).ConfigureAwait(false);
            return image.Extents;
        }
        catch (Exception e) when (e is ConfigurationException or BlockException)
        {
            if (isNew) HostFile.TryRemove(place);
            foreach (NewExtent extent in image?.Extents ?? [])
                if (extent.IsNew) HostFile.TryRemove(extent.Place);
            throw e is BlockException ? new ConfigurationException(e.Message, e) : e;
        }
    }
}
