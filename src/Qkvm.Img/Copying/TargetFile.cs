using System.Runtime.InteropServices;
using Qkvm.Core.Block;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Img.Copying;

/// <summary>Where a new image is written: beside its place, under a name that ends with ".part", until it is whole. So
/// whatever ends the program, what stands under the image's own name is whole, or is what was there before.</summary>
/// <remarks>A device, a file with several names and one of another user are written in place; a signal that ends the
/// program while such a file is written cuts it to nothing.</remarks>
sealed class TargetFile : IAsyncDisposable
{
    const string PartSuffix = ".part";

    static readonly PosixSignal[] Endings = [PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP];

    readonly Tool _tool;
    readonly string _path;
    readonly FileStatus? _old;
    readonly List<PosixSignalRegistration> _signals = [];
    BlockDriver? _guard;
    bool _isWhole;

    public TargetFile(Tool tool, string path)
    {
        _tool = tool;
        bool exists = HostFile.TryStatus(path, out FileStatus status, out _);
        _old = exists ? status : null;
        _path = exists ? File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path : path;
        // Others keep their hands off what is to be replaced, and it fails where they use it.
        if (exists && status.IsRegularFile) _guard = tool.Open(_path, new ImageOpening("raw") { IsWritable = true });
        IsBeside = _old is not { } old || CanReplace(old);
        Place = IsBeside ? _path + Suffix : path;
        if (!IsBeside && _guard != null) tool.CloseAsync(_guard).GetAwaiter().GetResult();
        foreach (PosixSignal signal in Endings)
            _signals.Add(PosixSignalRegistration.Create(signal, _ => Undo()));
    }

    /// <summary>Where to write.</summary>
    public string Place { get; }

    /// <summary>Behind the names of the image's other files.</summary>
    public string Suffix => IsBeside ? PartSuffix : "";

    /// <summary>The image's other files.</summary>
    public IReadOnlyList<NewExtent> Extents { get; set; } = [];

    bool IsBeside { get; }

    /// <summary>The image is whole, and closed: it gets its name.</summary>
    public async Task FinishAsync()
    {
        if (IsBeside)
        {
            if (_guard != null) await _tool.CloseAsync(_guard).ConfigureAwait(false);
            foreach (NewExtent extent in Extents) File.Move(extent.Place, extent.Path, overwrite: true);
            if (_old is { } old) HostFile.SetMode(Place, (UnixFileMode)old.Permissions);
            File.Move(Place, _path, overwrite: true);
        }
        _isWhole = true;
    }

    public ValueTask DisposeAsync()
    {
        foreach (PosixSignalRegistration signal in _signals) signal.Dispose();
        if (!_isWhole && IsBeside) RemoveParts();
        return default;
    }

    /// <summary>Another user's file would become ours, and other names would go on to be the old one's.</summary>
    bool CanReplace(in FileStatus old)
    {
        if (!old.IsRegularFile || old.Links != 1) return false;
        if (!HostFile.TryStatus("/proc/self", out FileStatus self, out _) || self.Owner != old.Owner
            || self.Group != old.Group) return false;
        using HostFile? file = HostFile.Open(_path + PartSuffix, Libc.ORdWr | Libc.OCreat, out _);
        return file != null;                                       // the directory takes new names
    }

    void RemoveParts()
    {
        HostFile.TryRemove(Place);
        foreach (NewExtent extent in Extents) HostFile.TryRemove(extent.Place);
    }

    void Undo()
    {
        if (_isWhole) return;
        if (IsBeside) RemoveParts();
        else if (_old is null or { IsRegularFile: true })
        {
            using HostFile? file = HostFile.Open(Place, Libc.ORdWr, out _);
            file?.Truncate(0);
        }
    }
}
