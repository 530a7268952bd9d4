using Qkvm.Core.Block.Images;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>What users can say of a new qcow2 image, in the order of qemu-img's line "Formatting".</summary>
static class Qcow2Creation
{
    public static readonly ImageCreation Model = new(
        [
            Property.Size("cluster_size", 64 << 10, "qcow2 cluster size"),
            Property.Bool("extended_l2", false, "Extended L2 tables"),
            Property.Text("preallocation", help: "Preallocation mode (allowed values: off, metadata, falloc, full)"),
            Property.Text("compression_type", "zlib", "Compression method used for image cluster compression"),
            Property.Size("size", help: "Virtual disk size"),
            Property.Text("compat", help: "Compatibility level (v2 [0.10] or v3 [1.1])"),
            Property.Text("backing_file", help: "File name of a base image"),
            Property.Text("backing_fmt", help: "Image format of the base image"),
            Property.Bool("lazy_refcounts", false, "Postpone refcount updates"),
            Property.Number("refcount_bits", 16, help: "Width of a reference count entry in bits"),
        ],
        static image => new(Qcow2Image.FormatAsync(image.File, image.Path, image.Size, Read(image.Options))))
    {
        MeasureAsync = static measuring => Qcow2Measure.MeasureAsync(measuring, Read(measuring.Options)),
    };

    static Qcow2CreateOptions Read(Properties options)
    {
        return new Qcow2CreateOptions
        {
            ClusterSize = (int)Math.Min(options.Size("cluster_size"), int.MaxValue),
            Version = options.Text("compat") switch
            {
                null or "1.1" or "v3" => 3,
                "0.10" or "v2" => 2,
                string other => throw new ConfigurationException($"Parameter 'version' does not accept value '{other}'"),
            },
            RefcountBits = (int)Math.Min(options.Number("refcount_bits"), int.MaxValue),
            LazyRefcounts = options.Bool("lazy_refcounts"),
            ExtendedL2 = options.Bool("extended_l2"),
            CompressionType = options.Text("compression_type") switch
            {
                "zlib" => 0,
                "zstd" => 1,
                string other => throw new ConfigurationException($"Parameter 'compression-type' does not accept value '{other}'"),
                null => 0,
            },
            Preallocation = options.Text("preallocation") switch
            {
                null or "off" => Preallocation.Off,
                "metadata" => Preallocation.Metadata,
                "falloc" => Preallocation.Falloc,
                "full" => Preallocation.Full,
                string other => throw new ConfigurationException($"Parameter 'preallocation' does not accept value '{other}'"),
            },
            BackingFile = options.Text("backing_file"),
            BackingFormat = options.Text("backing_fmt"),
        };
    }
}
