namespace Qkvm.Storage.Drivers.File;

/// <summary>What a user does with an image file, in QEMU's permission bits: they are offsets of lock bytes.</summary>
[Flags]
public enum ImagePermissions { None = 0, ConsistentRead = 1, Write = 2, WriteUnchanged = 4, Resize = 8 }

/// <summary>What a user of an image does and what it forbids others.</summary>
public readonly record struct ImageUse(ImagePermissions Does, ImagePermissions Forbids)
{
    const ImagePermissions WriteAndResize = ImagePermissions.Write | ImagePermissions.Resize;

    /// <summary>A raw image: its size stays. With share-rw=on others may write too.</summary>
    public static ImageUse Raw(bool readOnly, bool shareWrite = false) => new(
        readOnly ? ImagePermissions.ConsistentRead : ImagePermissions.ConsistentRead | ImagePermissions.Write,
        shareWrite ? ImagePermissions.None : ImagePermissions.Write);

    /// <summary>A format with metadata: nobody else may change it in any way.</summary>
    public static ImageUse Format(bool readOnly) => new(
        readOnly ? ImagePermissions.ConsistentRead : ImagePermissions.ConsistentRead | WriteAndResize, WriteAndResize);

    /// <summary>force-share=on, the -U of the image tools: reads whatever others do.</summary>
    public static readonly ImageUse Shared = new(ImagePermissions.None, ImagePermissions.None);
}
