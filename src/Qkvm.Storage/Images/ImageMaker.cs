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
    /// <param name="size">Bytes; the last sector is made whole.</param>
    /// <param name="noFlush">Nobody waits for the disk.</param>
    /// <exception cref="ConfigurationException">It cannot be made; what was not there before is gone again.</exception>
    public static async Task CreateAsync(BlockFactory factory, ImageCreation creation, string path, string? place,
        long size, Properties options, bool noFlush = false)
    {
        if (size > long.MaxValue - SectorSize) throw new ConfigurationException($"An image cannot have {size} bytes");
        place ??= path;
        bool isNew = !HostFile.TryStatus(place, out _, out _);
        try
        {
            await using FileDriver file = factory.CreateFile(place, noFlush);
            file.AllowGrowth();
            long whole = (size + SectorSize - 1) / SectorSize * SectorSize;
            await creation.CreateAsync(new NewImage(factory, path, file, whole, options)).ConfigureAwait(false);
        }
        catch (Exception e) when (e is ConfigurationException or BlockException)
        {
            if (isNew) HostFile.TryRemove(place);
            throw e is BlockException ? new ConfigurationException(e.Message, e) : e;
        }
    }
}
