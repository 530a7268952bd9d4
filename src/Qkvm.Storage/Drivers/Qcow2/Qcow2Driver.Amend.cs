using System.Numerics;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Luks;

namespace Qkvm.Storage.Drivers.Qcow2;

/// <summary>Changes what an image was made with.</summary>
public sealed partial class Qcow2Driver : IAmendable
{
    static readonly Property[] s_amendOptions =
    [
        Property.Text("backing_file", help: "File name of a base image"),
        Property.Text("backing_fmt", help: "Image format of the base image"),
        Property.Text("compat", help: "Compatibility level (v2 [0.10] or v3 [1.1])"),
        Property.Text("data_file", help: "File name of an external data file"),
        Property.Bool("data_file_raw", false, "The external data file must stay valid as a raw image")
            with { Default = null },
        .. LuksAmendment.Options("encrypt."),
        Property.Bool("lazy_refcounts", false, "Postpone refcount updates") with { Default = null },
        Property.Automatic("refcount_bits", help: "Width of a reference count entry in bits") with { Default = null },
        Property.Size("size", help: "Virtual disk size"),
    ];

    const string NeedsNewer = "compatibility level 1.1 or above (use compat=1.1 or greater)";

    /// <inheritdoc/>
    public async ValueTask AmendAsync(Amendment amendment)
    {
        Properties options = amendment.Options;
        Qcow2Header header = Info.Header;
        uint version = options.Text("compat") switch
        {
            null => header.Version,
            "0.10" or "v2" => 2,
            "1.1" or "v3" => 3,
            string other => throw Refused($"Unknown compatibility level {other}"),
        };
        int order = header.RefcountOrder;
        if (options.NumberOrAuto("refcount_bits") is { } bits)
        {
            if (!BitOperations.IsPow2(bits) || bits > 64)
                throw Refused("Refcount width must be a power of two and may not exceed 64 bits");
            order = BitOperations.Log2(bits);
        }
        bool isLazy = options.Has("lazy_refcounts") ? options.Bool("lazy_refcounts")
            : Info.LazyRefcounts && version == 3;
        if (version == 2 && order != 4) throw Refused($"Refcount widths other than 16 bits require {NeedsNewer}");
        if (version == 2 && isLazy)
            throw Refused("Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
                + "greater)");
        if (options.Has("data_file") && !header.HasDataFile)
            throw Refused("data-file can only be set for images that use an external data file");
        if (options.Bool("data_file_raw") && !header.IsDataRaw)
            throw Refused("data-file-raw cannot be set on existing images");
        if (version == 2 && header.Version == 3) CheckDowngrade();
        bool changesKeys = LuksAmendment.IsGiven(options, "encrypt.");
        if (changesKeys && _encryption == null)
            throw Refused("Can't amend encryption options - encryption not present");

        PrepareForWriting();
        lock (_store.Sync)
        {
            if (changesKeys) new LuksAmendment(_encryption!, _masterKey!, ReadCrypto, WriteCrypto).Run(amendment,
                "encrypt.");
            _store.Flush();
            if (version == 3 && header.Version == 2) Upgrade();
            if (order != header.RefcountOrder) _store.Refcounts.ChangeWidth(order, RewriteHeader);
            if (!isLazy) _store.EndLazy();
            header.Compatible = header.Compatible & ~Qcow2Features.LazyRefcounts
                | (isLazy ? Qcow2Features.LazyRefcounts : 0);
            if (options.Text("backing_file") is { } name) Info.BackingFile = name.Length > 0 ? name : null;
            if (options.Text("backing_fmt") is { } format)
                Info.Extensions.Set(Qcow2Extension.BackingFormat, format == "" ? null : Encoding.UTF8.GetBytes(format));
            if (options.Text("data_file") is { } data)
                Info.Extensions.Set(Qcow2Extension.DataFile, data == "" ? null : Encoding.UTF8.GetBytes(data));
            if (options.Has("data_file_raw") && !options.Bool("data_file_raw"))
                header.Autoclear &= ~Qcow2Features.AutoclearRawData;
            RewriteHeader();
        }
        if (options.Has("size")) await ResizeAsync((long)options.Size("size")).ConfigureAwait(false);
        if (version == 2 && header.Version == 3) await DowngradeAsync(amendment.Progress).ConfigureAwait(false);
        await FlushAsync().ConfigureAwait(false);
        amendment.Progress(1);
    }

    void Upgrade()
    {
        _store.CompleteSnapshots();
        Qcow2Header header = Info.Header;
        (header.Version, header.HeaderLength) = (3, Qcow2Header.LongestLength);
        Info.Extensions.Set(Qcow2Extension.FeatureNames, Qcow2Extensions.FeatureNameTable());
        RewriteHeader();
    }

    void CheckDowngrade()
    {
        if (Info.Header.HasDataFile) throw Refused("Cannot downgrade an image with a data file");
        if (Info.HasExtendedL2) throw Refused("Cannot downgrade an image with extended L2 entries");
        if (Info.Header.CompressionType != 0)
            throw Refused("Cannot downgrade an image with zstd compression type");
        if (_bitmaps.Count > 0) throw Refused("Cannot downgrade an image with bitmaps");
        if (_store.Snapshots.Count > 0)
            throw Refused("Internal snapshots prevent downgrade of image");
    }

    /// <summary>The older version knows no zero clusters: they become nothing or data.</summary>
    async ValueTask DowngradeAsync(Action<double> progress)
    {
        for (long offset = 0; offset < _store.Header.Size;)
        {
            Extent extent;
            lock (_store.Sync) extent = _store.Mapping.Find(offset, _store.Header.Size - offset);
            if (extent.Kind == ExtentKind.Zero)
            {
                long end = Math.Min(offset + extent.Length, _store.Header.Size);
                for (; offset < end; offset += _layout.ClusterSize)
                {
                    bool isPlain;
                    lock (_store.Sync)
                    {
                        isPlain = Backing == null && _store.Mapping.Entry(offset).HostOffset == 0;
                        if (isPlain) _store.Mapping.SetEntry(offset, default);
                    }
                    if (!isPlain) await _writer.WriteAsync(offset, ScatterLists.Zeroes(
                        Math.Min(_layout.ClusterSize, end - offset))).ConfigureAwait(false);
                }
            }
            else offset += extent.Length;
            progress((double)offset / _store.Header.Size);
        }
        lock (_store.Sync)
        {
            _store.Flush();
            _store.FlushFile();
            Qcow2Header header = Info.Header;
            (header.Version, header.HeaderLength, header.Incompatible, header.Compatible, header.Autoclear) =
                (2, Qcow2Header.Version2Length, 0, 0, 0);
            Info.Extensions.Set(Qcow2Extension.FeatureNames, null);
            RewriteHeader();
        }
    }

    static BlockException Refused(string why) => new(why, Errno.Inval);
}
