using Qkvm.Control.Hmp;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Words">As -drive or, of a node, -blockdev takes them.</param>
public sealed record DriveAddArguments(bool IsNode, string Words);

public sealed record DriveDeleteArguments(string Id);

/// <summary>drive_add and drive_del: -drive if=none while the machine runs. QMP has blockdev-add.</summary>
static class DriveAdd
{
    public static readonly Command Add = new Command<DriveAddArguments, DriveAddArguments>(null, null,
        static async (context, arguments) =>
        {
            try
            {
                if (arguments.IsNode)
                {
                    Options options = Options.Parse(arguments.Words, Owner, "driver");
                    await context.Host.AddNodeAsync(new(options.Text("node-name")
                        ?? throw new MonitorException("'node-name' needs to be specified"),
                        options.Text("driver") ?? "", options)).ConfigureAwait(false);
                }
                else await context.Host.AddDriveAsync(arguments.Words).ConfigureAwait(false);
                return arguments;
            }
            catch (ConfigurationException e)
            {
                throw new MonitorException(e.Message.StartsWith($"{Owner}: ", StringComparison.Ordinal)
                    ? e.Message[(Owner.Length + 2)..] : e.Message);
            }
        })
    {
        // the PCI address in front meant something once
        Human = new("drive_add", "[-n] [[<domain>:]<bus>:]<slot>\n" + "[file=file][,if=type][,bus=n]\n"
            + "[,unit=m][,media=d][,index=i]\n" + "[,snapshot=on|off][,cache=on|off]\n"
            + "[,readonly=on|off][,copy-on-read=on|off]", "add drive to PCI storage controller", static words =>
        {
            bool isNode = words.Flag('n');
            words.Word();
            return new(isNode, words.Word());
        }, static (monitor, added) => { if (!added.IsNode) monitor.Write("OK\n"); }),
    };

    public static readonly Command Delete = new Command<DriveDeleteArguments, Nothing>(null, null,
        static async (context, arguments) =>
        {
            string id = arguments.Id;
            if (!context.Backends.Drives.TryGetValue(id, out BlockBackend? drive))
            {
                if (context.Host.Nodes.All(node => node.NodeName != id))
                    throw new MonitorException($"Device '{id}' not found");
                await context.Host.RemoveNodeAsync(id).ConfigureAwait(false);
                return Nothing.Value;
            }
            BlockDrive found = BlockDrive.Find(context, id, null) with { Removable = null, User = null };
            await found.RemoveMediumAsync().ConfigureAwait(false);
            if (context.Backends.OwnerOfDrive(id) == null) context.Backends.Drives.Remove(id);
            return Nothing.Value;
        })
    {
        Human = new("drive_del", "device", "remove host block device",
            static words => new DriveDeleteArguments(words.Word("block device name"))),
        Completes = [Completions.Drives],
    };

    const string Owner = "drive_add";
}
