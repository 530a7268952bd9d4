using System.Text.Json.Serialization;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>Beside these, what the type takes.</summary>
public sealed record ObjectAddArguments(string QomType, string Id);

public sealed record ObjectDeleteArguments(string Id);

/// <summary>object-add and object-del: -object while the machine runs.</summary>
static class ObjectAdd
{
    public static readonly Command Add = new OptionsCommand<ObjectAddArguments, Nothing>("object-add",
        ObjectAddJson.Default, "qom-type", "[qom-type=]type,id=str[,prop=value][,...]", "create QOM object",
        static (context, options) =>
        {
            string type = options.Text("qom-type") ?? throw new CommandException("Parameter 'qom-type' is missing");
            string id = options.Text("id") ?? throw new CommandException("Parameter 'id' is missing");
            Identifier.Check(id, options.Owner);
            context.Host.Add(new ObjectConfig(type, id, Options.Of(options.Owner, options.Rest)));
            return new(Nothing.Value);
        }) { Models = ModelKind.Object, HumanName = "object_add" };

    public static readonly Command Delete = new Command<ObjectDeleteArguments, Nothing>("object-del",
        ObjectAddJson.Default, static (context, arguments) =>
    {
        context.Host.RemoveObject(arguments.Id);
        return Nothing.Value;
    })
    {
        Human = new("object_del", "id", "destroy QOM object", words => new ObjectDeleteArguments(words.Word())),
        Completes = [Hmp.Completions.Objects],
    };
}

[JsonSerializable(typeof(ObjectAddArguments))]
[JsonSerializable(typeof(ObjectDeleteArguments))]
sealed partial class ObjectAddJson : JsonSerializerContext;
