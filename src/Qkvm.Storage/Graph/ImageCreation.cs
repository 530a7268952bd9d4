using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Graph;

/// <summary>How a format makes images: what <c>qemu-img create -o</c> takes, and what writes the image.</summary>
/// <param name="Properties">With QEMU's names, defaults and help, in the order in which "Formatting" shows them;
/// <c>size</c> among them. What every file takes (preallocation, nocow, extent_size_hint) is added where it is
/// missing.</param>
/// <param name="CreateAsync">Writes an empty image onto <see cref="NewImage.File"/>. Errors are
/// <see cref="ConfigurationException"/>s of <see cref="NewImage.Error"/>.</param>
public sealed record ImageCreation(Property[] Properties, Func<NewImage, ValueTask> CreateAsync)
    : Model("create", [.. Properties, .. ForEveryFile.Where(p => Properties.All(own => own.Name != p.Name))])
{
    public static readonly Property[] ForEveryFile =
    [
        Property.Size("extent_size_hint", help: "Extent size hint for the image file, 0 to disable"),
        Property.Bool("nocow", false, "Turn off copy-on-write (valid only on btrfs)") with { Default = null },
        Property.Text("preallocation", help: "Preallocation mode (allowed values: off, falloc, full)"),
    ];

    /// <summary>Bytes that an image would take; null where the format cannot tell.</summary>
    public Func<ImageMeasuring, ValueTask<Measurement>>? MeasureAsync { get; init; }
}

/// <summary>A file that is part of an image.</summary>
/// <param name="Place">Where it is until the image is whole.</param>
/// <param name="IsNew">Nothing was there before.</param>
public sealed record NewExtent(string Role, string Path, string Place, bool IsNew);

/// <summary>An image that is being made.</summary>
/// <param name="factory">Opens and makes what else belongs to it.</param>
/// <param name="path">As typed: what the image calls itself and its extents after.</param>
/// <param name="file">Empty, writable and growing, already the image's; stays open.</param>
/// <param name="size">Bytes of the disk, whole sectors.</param>
/// <param name="options">Checked against the format's <see cref="ImageCreation"/>.</param>
/// <param name="suffix">Behind the names of extents until the image is whole.</param>
public sealed class NewImage(BlockFactory factory, string path, BlockDriver file, long size, Properties options,
    string suffix = "")
{
    readonly List<NewExtent> _extents = [];

    public string Path => path;
    public BlockDriver File => file;
    public long Size => size;
    public Properties Options => options;

    /// <summary>The files that hold the disk, where those are others than <see cref="File"/>.</summary>
    public IReadOnlyList<NewExtent> Extents => _extents;

    /// <summary>Makes a file that the user has named, or replaces its contents; the caller disposes the node.</summary>
    /// <param name="name">From the directory of the image.</param>
    public BlockDriver CreateNamed(string name) => Create(BlockFactory.RelativeTo(path, name));

    /// <summary>Makes another file of the image beside it; the caller disposes the node.</summary>
    /// <param name="role">Of the node in the image's.</param>
    /// <param name="name">From the directory of the image.</param>
    public BlockDriver CreateExtent(string role, string name)
    {
        string final = BlockFactory.RelativeTo(path, name), place = final + suffix;
        _extents.Add(new NewExtent(role, final, place, !HostFile.TryStatus(place, out _, out _)));
        return Create(place);
    }

    BlockDriver Create(string place)
    {
        BlockDriver extent = factory.CreateFile(place);
        (extent as IGrowable)?.AllowGrowth();
        return extent;
    }

    /// <summary>What -object secret of that id holds.</summary>
    public byte[] Secret(string id) => factory.Secret(id);

    /// <summary>What is said after the image's name and a colon.</summary>
    public ConfigurationException Error(string message) => new(message);
}

/// <summary>An image whose size is asked for before it is made.</summary>
/// <param name="Size">Bytes of the disk.</param>
/// <param name="Source">What would be copied into it; null for an empty image.</param>
public sealed record ImageMeasuring(Properties Options, long Size, BlockDriver? Source);

/// <param name="Required">Bytes that the source's data and the format's tables take.</param>
/// <param name="FullyAllocated">Bytes when every byte has been written.</param>
/// <param name="Bitmaps">Bytes of the source's bitmaps, where the format could keep them; null for none.</param>
public sealed record Measurement(long Required, long FullyAllocated, long? Bitmaps = null);
