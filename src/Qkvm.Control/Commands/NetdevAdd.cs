using System.Text.Json.Serialization;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>Beside these, what the type takes.</summary>
public sealed record NetdevAddArguments(string Type, string Id);

public sealed record NetdevDeleteArguments(string Id);

/// <summary>netdev_add and netdev_del: -netdev while the machine runs.</summary>
static class NetdevAdd
{
    public static readonly Command Add = new OptionsCommand<NetdevAddArguments, Nothing>("netdev_add",
        NetdevAddJson.Default, "type", "[user|tap|socket|…],id=str[,prop=value][,...]", "add host network device",
        static (context, options) =>
        {
            string type = options.Text("type") ?? throw new CommandException("Parameter 'type' is missing");
            string id = options.Text("id") ?? throw new CommandException("Parameter 'id' is missing");
            Identifier.Check(id, options.Owner);
            context.Host.Add(new NetdevConfig(id, type, Options.Of(options.Owner, options.Rest)));
            return new(Nothing.Value);
        }) { MayBeEmpty = true, Models = ModelKind.Netdev, Completes = [Hmp.Completions.Models(ModelKind.Netdev)] };

    public static readonly Command Delete = new Command<NetdevDeleteArguments, Nothing>("netdev_del",
        NetdevAddJson.Default, static (context, arguments) =>
    {
        context.Host.RemoveNetdev(arguments.Id);
        return Nothing.Value;
    })
    {
        Human = new("netdev_del", "id", "remove host network device",
            words => new NetdevDeleteArguments(words.Word())),
        Completes = [Hmp.Completions.Netdevs],
    };
}

[JsonSerializable(typeof(NetdevAddArguments))]
[JsonSerializable(typeof(NetdevDeleteArguments))]
sealed partial class NetdevAddJson : JsonSerializerContext;
