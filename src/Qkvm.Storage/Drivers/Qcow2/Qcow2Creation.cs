using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Luks;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>What users can say of a new qcow2 image, in the order of qemu-img's line "Formatting".</summary>
static class Qcow2Creation
{
    public static readonly ImageCreation Model = new(
        [
            Property.Bool("encryption", false, "Encrypt the image with format 'aes'. (Deprecated in favor of "
                + "encrypt.format=aes)") with { Default = null },
            Property.Text("encrypt.format", help: "Encrypt the image, format choices: 'aes', 'luks'"),
            .. LuksCreation.Options("encrypt."),
            Property.Size("cluster_size", 64 << 10, "qcow2 cluster size"),
            Property.Bool("extended_l2", false, "Extended L2 tables"),
            Property.Text("preallocation", help: "Preallocation mode (allowed values: off, metadata, falloc, full)"),
            Property.Text("compression_type", "zlib", "Compression method used for image cluster compression"),
            Property.Size("size", help: "Virtual disk size"),
            Property.Text("compat", help: "Compatibility level (v2 [0.10] or v3 [1.1])"),
            Property.Text("data_file", help: "File name of an external data file"),
            Property.Bool("data_file_raw", false, "The external data file must stay valid as a raw image")
                with { Default = null },
            Property.Text("backing_file", help: "File name of a base image"),
            Property.Text("backing_fmt", help: "Image format of the base image"),
            Property.Bool("lazy_refcounts", false, "Postpone refcount updates"),
            Property.Number("refcount_bits", 16, help: "Width of a reference count entry in bits"),
        ],
        CreateAsync)
    {
        MeasureAsync = static measuring => Qcow2Measure.MeasureAsync(measuring, Read(measuring.Options)),
    };

    static async ValueTask CreateAsync(NewImage image)
    {
        Qcow2CreateOptions options = Read(image.Options);
        if (options.CryptoLength > 0)
        {
            var made = LuksCreation.Make(image, "encrypt.");
            options = options with { Encryption = made, CryptoLength = made.Facts.PayloadOffset };
        }
        string? name = image.Options.Text("data_file");
        if (options.IsDataRaw && name == null) throw image.Error("data-file-raw requires data-file");
        if (options.IsDataRaw && options.BackingFile != null)
            throw image.Error("Backing file and data-file-raw cannot be used at the same time");
        if (name != null && options.Version < 3)
            throw image.Error("External data files are only supported with compatibility level 1.1 and above (use "
                + "version=v3 or greater)");
        if (name == null)
        {
            await Qcow2Image.FormatAsync(image.File, image.Path, image.Size, options).ConfigureAwait(false);
            return;
        }
        await using BlockDriver data = image.CreateNamed(name);
        if (options is { IsDataRaw: true, Preallocation: Preallocation.Off }) // who reads the file alone sees the disk
            options = options with { Preallocation = Preallocation.Metadata };
        await Qcow2Image.FormatAsync(image.File, image.Path, image.Size, options with { DataFile = (name, data) })
            .ConfigureAwait(false);
    }

    static Qcow2CreateOptions Read(Properties options)
    {
        return new Qcow2CreateOptions
        {
            ClusterSize = (int)Math.Min(options.Size("cluster_size"), int.MaxValue),
            Version = options.Text("compat") switch
            {
                null or "1.1" or "v3" => 3,
                "0.10" or "v2" => 2,
                string other => throw Unacceptable("version", other),
            },
            RefcountBits = (int)Math.Min(options.Number("refcount_bits"), int.MaxValue),
            LazyRefcounts = options.Bool("lazy_refcounts"),
            ExtendedL2 = options.Bool("extended_l2"),
            CompressionType = options.Text("compression_type") switch
            {
                "zlib" => 0,
                "zstd" => 1,
                string other => throw Unacceptable("compression-type", other),
                null => 0,
            },
            Preallocation = options.Text("preallocation") switch
            {
                null or "off" => Preallocation.Off,
                "metadata" => Preallocation.Metadata,
                "falloc" => Preallocation.Falloc,
                "full" => Preallocation.Full,
                string other => throw Unacceptable("preallocation", other),
            },
            IsDataRaw = options.Bool("data_file_raw"),
            CryptoLength = Encryption(options) switch
            {
                null => 0,
                "luks" => LuksHeader.TotalSize(keyBytes: 64),
                "aes" => throw new ConfigurationException("AES-CBC encryption is not supported; give "
                    + "encrypt.format=luks"),
                string other => throw Unacceptable("format", other),
            },
            BackingFile = options.Text("backing_file"),
            BackingFormat = options.Text("backing_fmt"),
        };
    }

    /// <summary>The format's name, or null for none.</summary>
    static string? Encryption(Properties options)
    {
        if (!options.Has("encryption")) return options.Text("encrypt.format");
        if (options.Has("encrypt.format"))
            throw new ConfigurationException("'encrypt.format' and its alias 'encryption' can't be used at the same "
                + "time");
        return options.Bool("encryption") ? "aes" : null;
    }

    static ConfigurationException Unacceptable(string name, string value) =>
        new($"Parameter '{name}' does not accept value '{value}'");
}
