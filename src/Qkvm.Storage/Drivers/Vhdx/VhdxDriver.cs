using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.Images;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vhdx;

/// <summary>Format <c>vhdx</c>: Hyper-V's images, fixed and dynamic. Spec: [MS-VHDX].</summary>
/// <remarks>Deviations: differencing disks are refused, as QEMU's.</remarks>
public sealed class VhdxDriver : GrowingImage, ICheckable
{
    public static readonly BlockDriverModel Model = new("vhdx", [Property.Node("file", "the image")],
        static (_, parts) => Open(parts.File, parts.Node))
    {
        Description = "Hyper-V's VHDX images", Creation = VhdxCreation.Model,
    };

    const int MaxLog = 64 << 20;

    // [MS-VHDX] 2.5.1.1
    const ulong StateMask = 7, NotPresent = 0, Undefined = 1, Zero = 2, Unmapped = 3, FullyPresent = 6,
        OffsetMask = ~0xF_FFFFUL;

    readonly VhdxLayout _layout = new();
    VhdxHeader _header = null!;
    bool _isSecondHeader;                                          // it is the one that counts
    VhdxLog _log = null!;
    ImageTable _table = null!;
    long _end;                                                     // the first byte that nothing has
    volatile bool _isUntouched = true;

    VhdxDriver(BlockDriver file, NodeOptions options) : base(file, options) { }

    public static VhdxDriver Open(BlockDriver file, NodeOptions options) => Opened(new VhdxDriver(file, options));

    public override string FormatName => Model.Name;
    public override long Length => _layout.DiskSize;
    public override ImageFacts Facts => base.Facts with { ClusterSize = _layout.BlockSize };
    private protected override int BlockSize => _layout.BlockSize;
    private protected override bool HasDirty => _table.HasDirty;

    /// <inheritdoc/>
    public ValueTask<CheckResult> CheckAsync(Repair repair, Action<string> report) => new(Check(report));

    protected override void Load()
    {
        if (!ReadFile(0, 8).AsSpan().SequenceEqual("vhdxfile"u8)) throw Bad("Image not in VHDX format");
        ReadHeaders();
        if (_header.LogLength % VhdxFormat.Mebibyte != 0 || _header.LogLength > MaxLog
            || _header.LogOffset % VhdxFormat.Mebibyte != 0 || _header.LogOffset < VhdxFormat.Mebibyte
            || _header.LogOffset > (ulong)Math.Max(0, File.Length - _header.LogLength))
            throw Bad($"a log of {_header.LogLength} bytes at 0x{_header.LogOffset:x}");
        _log = new VhdxLog(File, (long)_header.LogOffset, (int)_header.LogLength);
        if (_header.LogId != Guid.Empty) ReplayLog();
        string? wrong = _layout.ReadRegions(ReadFile(VhdxFormat.RegionsAt, VhdxFormat.RegionTableSize));
        if (wrong != null)
            wrong = _layout.ReadRegions(ReadFile(VhdxFormat.SecondRegionsAt, VhdxFormat.RegionTableSize));
        wrong ??= _layout.ReadMetadata(ReadFile(_layout.MetadataOffset,
            (int)Math.Min(_layout.MetadataLength, VhdxFormat.Mebibyte)));
        if (wrong != null) throw Bad($"Image is corrupt: {wrong}");
        _table = new ImageTable(File, _layout.TableOffset, _layout.TableLength / sizeof(ulong), sizeof(ulong), false,
            WriteBack);
        _end = (File.Length + VhdxFormat.Mebibyte - 1) / VhdxFormat.Mebibyte * VhdxFormat.Mebibyte;
    }

    void ReadHeaders()
    {
        VhdxHeader? first = VhdxHeader.ReadFrom(ReadFile(VhdxFormat.HeaderAt, VhdxHeader.Size)),
            second = VhdxHeader.ReadFrom(ReadFile(VhdxFormat.SecondHeaderAt, VhdxHeader.Size));
        _isSecondHeader = first == null || (second != null && second.Sequence > first.Sequence);
        _header = (_isSecondHeader ? second : first) ?? throw Bad("No valid VHDX header found");
    }

    void ReplayLog()
    {
        bool isNeeded = _log.Replay(_header.LogId, apply: !IsReadOnly);
        if (!IsReadOnly) WriteHeader(_header with { LogId = Guid.Empty });
        else if (isNeeded)
            throw Bad($"VHDX image file '{FileName}' opened read-only, but contains a log that needs to be replayed");
    }

    /// <summary>Over the older of the two: one is valid at any moment.</summary>
    void WriteHeader(VhdxHeader header)
    {
        header = header with { Sequence = _header.Sequence + 1 };
        ScatterLists.Wait(File.WriteAsync(_isSecondHeader ? VhdxFormat.HeaderAt : VhdxFormat.SecondHeaderAt,
            new ScatterList(header.ToBytes())));
        ScatterLists.Wait(File.FlushAsync());
        (_header, _isSecondHeader) = (header, !_isSecondHeader);
    }

    private protected override bool IsLoaded(long offset) => _table.Holds(_layout.EntryOf(offset / BlockSize));

    private protected override ImageRun Find(long offset, long length)
    {
        long inBlock = offset % BlockSize, found = Math.Min(length, BlockSize - inBlock), block = offset / BlockSize;
        ulong entry = _table[_layout.EntryOf(block)];
        long host = (long)(entry & OffsetMask);
        switch (entry & StateMask)
        {
            case NotPresent or Undefined or Unmapped: return new(RunKind.Unallocated, found);
            case Zero: return new(RunKind.Zero, found);
            case FullyPresent when host >= VhdxFormat.Mebibyte && !Overlaps(host):
                return new(RunKind.Data, found, host + inBlock);
            default:
                throw new BlockException($"{FileName}: the image is corrupt: block {block} has the entry 0x{entry:x}",
                    Errno.Io);
        }
    }

    /// <summary>No data lie over log and tables.</summary>
    bool Overlaps(long host) => On((long)_header.LogOffset, _header.LogLength, host)
        || On(_layout.TableOffset, _layout.TableLength, host)
        || On(_layout.MetadataOffset, _layout.MetadataLength, host);

    bool On(long start, long length, long host) => host < start + length && start < host + BlockSize;

    private protected override long Allocate(long block)
    {
        long host = _end;
        _end += BlockSize;
        return host;
    }

    private protected override void Link(long block, long host) =>
        _table[_layout.EntryOf(block)] = (ulong)host | FullyPresent;

    /// <summary>Before the first change of any kind: the file is another one from now on, and its log is in use.
    /// [MS-VHDX] 2.2.2.</summary>
    private protected override void PrepareForWriting()
    {
        if (!_isUntouched) return;
        lock (Sync)
        {
            if (!_isUntouched) return;
            WriteHeader(_header with
            {
                FileWriteId = Guid.NewGuid(), DataWriteId = Guid.NewGuid(), LogId = Guid.NewGuid(),
            });
            _isUntouched = false;
        }
    }

    private protected override void WriteTables()
    {
        ClusterTable[] dirty = [.. _table.Dirty];
        for (int done = 0; done < dirty.Length; done += _log.MaxPages)
        {
            ReadOnlySpan<ClusterTable> pages = dirty.AsSpan(done, Math.Min(_log.MaxPages, dirty.Length - done));
            _log.Write(_header.LogId, pages, File.Length);
            foreach (ClusterTable page in pages)
                ScatterLists.Wait(File.WriteAsync(page.Offset, new ScatterList(page.Data)));
            ScatterLists.Wait(File.FlushAsync());                  // the next entry lies over this one
        }
        _table.Written();
    }

    protected override async ValueTask CloseAsync()
    {
        if (_isUntouched) return;
        await base.CloseAsync().ConfigureAwait(false);
        lock (Sync) WriteHeader(_header with { LogId = Guid.Empty });
    }
}
