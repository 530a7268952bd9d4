using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<ReadOnlyMode>))]
public enum ReadOnlyMode { Retain, ReadOnly, ReadWrite }

/// <param name="Device">The drive's id.</param>
/// <param name="Id">Or else the device's id or path.</param>
/// <param name="Force">Of a tray that the guest has locked, too.</param>
public sealed record ChangeMediumArguments(string Filename, string? Device = null, string? Id = null,
    string? Format = null, bool Force = false, ReadOnlyMode ReadOnlyMode = ReadOnlyMode.Retain)
{
    /// <summary>`change vnc password`: what is no medium at all.</summary>
    [JsonIgnore] public string? VncPassword { get; init; }
}

/// <param name="Device">The drive's id.</param>
/// <param name="Id">Or else the device's id or path.</param>
public sealed record OpenTrayArguments(string? Device = null, string? Id = null, bool Force = false);

public sealed record CloseTrayArguments(string? Device = null, string? Id = null);

public sealed record RemoveMediumArguments(string Id);

public sealed record InsertMediumArguments(string Id, string NodeName);

/// <summary>What is in drives: `change`, and the steps that it is made of.</summary>
static class ChangeMedium
{
    public static readonly Command Change = new Command<ChangeMediumArguments, Nothing>("blockdev-change-medium",
        ChangeMediumJson.Default, ChangeAsync)
    {
        Human = new("change", "device [-f] filename [format [read-only-mode]]",
            "change a removable medium, optional format, use -f to force the operation", ParseChange),
        Completes = [Completions.Drives, Completions.Files, Completions.Models(ModelKind.BlockDriver),
            Completions.Words("retain", "read-only", "read-write")],
    };

    public static readonly Command OpenTray = new Command<OpenTrayArguments, Nothing>("blockdev-open-tray",
        ChangeMediumJson.Default, static (context, arguments) =>
        {
            BlockDrive.Find(context, arguments.Device, arguments.Id).AskForTray(arguments.Force);
            return Nothing.Value;                                  // who called waits for DEVICE_TRAY_MOVED
        });

    public static readonly Command CloseTray = new Command<CloseTrayArguments, Nothing>("blockdev-close-tray",
        ChangeMediumJson.Default, static (context, arguments) =>
        {
            BlockDrive.Find(context, arguments.Device, arguments.Id).CloseTray();
            return Nothing.Value;
        });

    public static readonly Command Remove = new Command<RemoveMediumArguments, Nothing>("blockdev-remove-medium",
        ChangeMediumJson.Default, static async (context, arguments) =>
        {
            await BlockDrive.Find(context, null, arguments.Id).RemoveMediumAsync().ConfigureAwait(false);
            return Nothing.Value;
        });

    public static readonly Command Insert = new Command<InsertMediumArguments, Nothing>("blockdev-insert-medium",
        ChangeMediumJson.Default, static (context, arguments) =>
        {
            BlockDrive drive = BlockDrive.Find(context, null, arguments.Id);
            BlockDriver node = context.Host.Nodes.FirstOrDefault(n => n.NodeName == arguments.NodeName)
                ?? throw new CommandException($"Node '{arguments.NodeName}' not found");
            if (context.Backends.Drives.Values.Any(d => d.Root == node) || drive.Backend.Root == node)
                throw new CommandException($"Node '{arguments.NodeName}' is already in use");
            drive.InsertMedium(node, null);
            return Nothing.Value;
        });

    static ChangeMediumArguments ParseChange(MonitorArguments words)
    {
        string device = words.Word("block device name");
        bool force = words.Flag('f');
        string file = words.Word("filename");
        string? format = words.Optional(), mode = words.Optional();
        words.End();
        if (device == "vnc" && file is ("passwd" or "password") && mode == null && format != null)
            return new(file) { VncPassword = format };
        if (device == "vnc")
            throw new MonitorException(file is not ("passwd" or "password") ? "Expected 'password' after 'vnc'"
                : mode != null ? "Parameter 'read-only-mode' is invalid for VNC"
                : "give the password behind it: change vnc password PASSWORD");
        return new(file, device, null, format, force, mode switch
        {
            null or "retain" => ReadOnlyMode.Retain,
            "read-only" => ReadOnlyMode.ReadOnly,
            "read-write" => ReadOnlyMode.ReadWrite,
            _ => throw new CommandException($"invalid parameter value: {mode}"),
        });
    }

    /// <summary>What cannot be opened leaves the old medium where it is.</summary>
    static async ValueTask<Nothing> ChangeAsync(CommandContext context, ChangeMediumArguments arguments)
    {
        if (arguments.VncPassword is { } password)
        {
            VncPasswords.Set(context, password, null);
            return Nothing.Value;
        }
        const string Owner = "blockdev-change-medium";
        BlockDrive drive = BlockDrive.Find(context, arguments.Device, arguments.Id);
        drive.MustBeRemovable();
        bool isReadOnly = arguments.ReadOnlyMode switch
        {
            ReadOnlyMode.ReadOnly => true,
            ReadOnlyMode.ReadWrite => false,
            _ => drive.Backend.IsReadOnly,
        };
        BlockDriver? medium = null;
        try
        {
            medium = await context.BackOnLoop(context.Host.OpenMediumAsync(arguments.Filename, arguments.Format,
                isReadOnly, Owner)).ConfigureAwait(false);
            drive.OpenTray(arguments.Force);
            await drive.RemoveMediumAsync().ConfigureAwait(false);
            drive.InsertMedium(medium, arguments.Filename);
            medium = null;
            drive.CloseTray();
            return Nothing.Value;
        }
        catch (ConfigurationException e)
        {
            throw new CommandException(e.Message.StartsWith($"{Owner}: ", StringComparison.Ordinal)
                ? e.Message[(Owner.Length + 2)..] : e.Message, inner: e);
        }
        finally
        {
            if (medium != null) await BlockDrive.CloseAsync(context, medium).ConfigureAwait(false);
        }
    }
}

[JsonSerializable(typeof(ChangeMediumArguments))]
[JsonSerializable(typeof(OpenTrayArguments))]
[JsonSerializable(typeof(CloseTrayArguments))]
[JsonSerializable(typeof(RemoveMediumArguments))]
[JsonSerializable(typeof(InsertMediumArguments))]
sealed partial class ChangeMediumJson : JsonSerializerContext;
