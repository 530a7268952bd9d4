using Qkvm.Control.Qom;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>A drive as commands name it: by its own id, or by that of the device that uses it.</summary>
/// <param name="Id">Empty of one that a device brought.</param>
/// <param name="Removable">The device whose medium comes and goes; null of another.</param>
/// <param name="User">The device's id or path; null: nobody uses it.</param>
sealed record BlockDrive(CommandContext Context, string Id, BlockBackend Backend, IRemovable? Removable, string? User)
{
    /// <summary>As messages name it.</summary>
    public string Name { get; init; } = Id.Length > 0 ? Id : User ?? "";

    /// <summary>QMP's name: what is a node's has none.</summary>
    public string OwnName => Context.Backends.IsOfNode(Id) ? "" : Id;
    public ITray? Tray => Removable as ITray;
    public bool IsRemovable => User == null || Removable != null;

    /// <summary>Those of options, then those of devices without.</summary>
    public static IEnumerable<BlockDrive> All(CommandContext context)
    {
        var removable = new List<(QDevice Device, IRemovable Drive)>();
        foreach ((_, QDevice device) in context.Devices)
            if (device.Device?.Facet<IRemovable>() is { } drive) removable.Add((device, drive));
        foreach ((string id, BlockBackend backend) in context.Backends.Drives)
        {
            IRemovable? drive = removable.FirstOrDefault(r => r.Drive.Backend == backend).Drive;
            yield return new(context, id, backend, drive, QomTree.UserOf(context, id));
        }
        foreach ((QDevice device, IRemovable drive) in removable)
            if (drive.Backend.Id.Length == 0)
                yield return new(context, "", drive.Backend, drive, device.Id ?? QomTree.PathOf(context, device));
    }

    /// <param name="device">The drive's id.</param>
    /// <param name="id">Or else the device's.</param>
    /// <exception cref="CommandException">None or both are given, or there is no such thing.</exception>
    public static BlockDrive Find(CommandContext context, string? device, string? id)
    {
        if (device == null == (id == null)) throw new CommandException("Need exactly one of 'device' and 'id'");
        string name = (device ?? id)!;
        BlockDrive found = All(context).FirstOrDefault(drive => device == null ? drive.User == name
            : drive.Id == name && name.Length > 0) ?? throw CommandException.DeviceNotFound(name);
        return found with { Name = name };
    }

    /// <summary>The event as programs know drive and device.</summary>
    public static MachineEvent Named(CommandContext context, MachineEvent happened) => happened switch
    {
        DeviceTrayMovedEvent moved when All(context).FirstOrDefault(drive => drive.Tray == moved.Tray) is { } drive =>
            moved with { Device = drive.OwnName, Id = drive.User ?? "" },
        BlockIoErrorEvent failed when context.Backends.IsOfNode(failed.Drive.Id) => failed with { Device = "" },
        _ => happened,
    };

    public void MustBeRemovable()
    {
        if (!IsRemovable) throw new CommandException($"Device '{Name}' is not removable");
    }

    /// <summary>A guest that has locked the tray is asked first, and opens it itself if it likes.</summary>
    /// <returns>False: that is what it waits for.</returns>
    public bool AskForTray(bool force)
    {
        MustBeRemovable();
        if (Tray is not { IsTrayOpen: false } tray) return true;
        bool isLocked = tray.IsLocked;
        if (isLocked) tray.RequestEject();
        if (isLocked && !force) return false;
        tray.MoveTray(open: true);
        return true;
    }

    public void OpenTray(bool force)
    {
        if (!AskForTray(force)) throw new CommandException($"Device '{Name}' is locked and force was not specified, "
            + "wait for tray to open and try again");
    }

    public void CloseTray()
    {
        MustBeRemovable();
        Tray?.MoveTray(open: false);
    }

    /// <summary>The drive's last requests and, of an image that nobody named, the flush end first; the machine runs
    /// on meanwhile.</summary>
    public async ValueTask RemoveMediumAsync()
    {
        MustBeRemovable();
        if (Tray is { IsTrayOpen: false }) throw new CommandException($"Tray of device '{Name}' is not open");
        if (Backend.Root is not { } medium) return;
        await IdleAsync(Backend).ConfigureAwait(false);
        if (Backend.Root != medium) return;                        // another command was faster
        Backend.Insert(null);
        await IdleAsync(Backend).ConfigureAwait(false);            // what a loop began meanwhile
        if (!Context.Host.Nodes.Contains(medium)) await CloseAsync(Context, medium).ConfigureAwait(false);
    }

    /// <summary>On a thread that may wait for disks; who awaits it goes on on the main loop.</summary>
    public static async ValueTask CloseAsync(CommandContext context, BlockDriver medium) =>
        await context.BackOnLoop(new ValueTask<bool>(Task.Run(async () =>
        {
            await medium.DisposeAsync().ConfigureAwait(false);
            return true;
        }))).ConfigureAwait(false);

    /// <param name="description">What it is called; null for the node's name.</param>
    public void InsertMedium(BlockDriver medium, string? description)
    {
        MustBeRemovable();
        if (Tray is { IsTrayOpen: false }) throw new CommandException("Tray of the device is not open");
        if (Backend.HasMedium) throw new CommandException($"There already is a medium in device '{Name}'");
        Backend.IsReadOnly |= medium.IsReadOnly;
        Backend.Insert(medium);
        Backend.Description = description ?? medium.FileName;
    }

    /// <summary>What awaits it goes on under the machine lock.</summary>
    static Task IdleAsync(BlockBackend drive)
    {
        var idle = new TaskCompletionSource();
        drive.WhenIdle(idle.SetResult);
        return idle.Task;
    }
}
