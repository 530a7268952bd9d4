using Qkvm.Backends.Char;
using Qkvm.Backends.Objects;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;

namespace Qkvm;

/// <summary>What monitors add and remove while the machine runs.</summary>
sealed partial class BackendHost
{
    readonly SemaphoreSlim _graph = new(1, 1);                     // one change of the block graph at a time

    public Descriptors Descriptors => Backends.Descriptors;

    public IReadOnlyList<BlockDriver> Nodes => _blocks.Nodes;

    static readonly Lazy<string[]> s_chipGlobals = new(static () =>
        [.. Catalogue.Machines.Models.SelectMany(machine => machine.ChipGlobals).Distinct()]);

    public IEnumerable<string> ChipGlobals => s_chipGlobals.Value;     // libvirt's probe asks for dozens of types

    public IReadOnlyList<Model> ModelsOf(ModelKind kind) => kind switch
    {
        ModelKind.Device => Catalogue.Devices.Models,
        ModelKind.Chardev => Catalogue.Chardevs.Models,
        ModelKind.Netdev => Catalogue.Netdevs.Models,
        ModelKind.Tpm => Catalogue.Tpms.Models,
        ModelKind.Audio => Catalogue.Audiodevs.Models,
        ModelKind.Object => Catalogue.Objects.Models,
        ModelKind.Machine => Catalogue.Machines.Models,
        ModelKind.Accelerator => Catalogue.Accelerators.Models,
        _ => Catalogue.BlockDrivers.Models,
    };

    public ValueTask AddNodeAsync(BlockdevConfig node) => ChangeGraphAsync(() =>
    {
        Add(node);
        return default;
    });

    public ValueTask RemoveNodeAsync(string nodeName) => ChangeGraphAsync(() => _blocks.RemoveNodeAsync(nodeName));

    public ValueTask ResizeAsync(BlockDriver node, long length) => ChangeGraphAsync(async () =>
    {
        Action resume = await ((IBlockUser)node).PauseAsync().ConfigureAwait(false);
        try { await node.ResizeAsync(length).ConfigureAwait(false); }
        finally { resume(); }
    });

    public ValueTask AddDriveAsync(string words) => ChangeGraphAsync(() =>
    {
        DriveConfig drive = Cli.Expander.DriveWithoutDevice(words);
        if (Backends.Drives.ContainsKey(drive.Id))
            throw new ConfigurationException($"Duplicate ID '{drive.Id}' for drive");
        Add(drive);
        return default;
    });

    public async ValueTask<BlockDriver> OpenMediumAsync(string file, string? format, bool isReadOnly, string owner)
    {
        BlockDriver? opened = null;
        await ChangeGraphAsync(() =>
        {
            var options = new Options(owner);
            options.Add("file", file);
            if (format != null) options.Add("format", format);
            options.Add("readonly", isReadOnly ? "on" : "off");
            opened = _blocks.OpenDrive(options).Root;
            return default;
        }).ConfigureAwait(false);
        return opened ?? throw new ConfigurationException("Parameter 'filename' expects a file name");
    }

    public void RemoveChardev(string id)
    {
        if (!Backends.Chardevs.TryGetValue(id, out var backend))
            throw new CommandException($"Chardev '{id}' not found");
        if (Backends.OwnerOfChardev(id) != null || Backends.Muxes.ContainsKey(id))
            throw new CommandException($"Chardev '{id}' is busy");
        Backends.Chardevs.Remove(id);
        Close(backend is ChangeableChar place ? place.Inner : backend);
    }

    public void RemoveNetdev(string id)
    {
        if (!Backends.Netdevs.TryGetValue(id, out var backend)) throw CommandException.DeviceNotFound(id);
        if (Backends.OwnerOfNetdev(id) is { } owner)
            throw new CommandException($"Device '{id}' is in use by {owner}; remove that first");
        Backends.Netdevs.Remove(id);
        Close(backend);
    }

    public void RemoveObject(string id)
    {
        if (!Backends.Objects.TryGetValue(id, out object? made)) throw new CommandException($"object '{id}' not found");
        if (Backends.UsersOfObject(id) > 0 || made is ThrottleGroupObject { Group.MemberCount: > 0 })
            throw new CommandException($"object '{id}' is in use, can not be deleted");
        Backends.Objects.Remove(id);
        Backends.ObjectOptions.Remove(id);
        Close(made);
    }

    void Close(object backend)
    {
        if (backend is not IDisposable disposable) return;
        _opened.Remove(disposable);
        disposable.Dispose();
    }

    /// <summary>On a thread that may wait for disks.</summary>
    async ValueTask ChangeGraphAsync(Func<ValueTask> change)
    {
        await _graph.WaitAsync().ConfigureAwait(false);
        try { await Task.Run(() => change().AsTask()).ConfigureAwait(false); }
        finally { _graph.Release(); }
    }
}
