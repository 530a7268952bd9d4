using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Core.Char;
using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Backend">{"type": "socket", "data": {…}}.</param>
public sealed record ChardevAddArguments(string Id, JsonElement Backend);

/// <param name="Pty">The terminal that a backend of that kind became.</param>
public sealed record ChardevReturn(string? Pty = null);

public sealed record ChardevRemoveArguments(string Id);

/// <summary>chardev-add and chardev-remove: -chardev while the machine runs.</summary>
static class ChardevAdd
{
    const string Terminal = "pty:";

    public static readonly Command Add = new OptionsCommand<ChardevAddArguments, ChardevReturn>("chardev-add",
        ChardevAddJson.Default, "backend", "args", "add chardev, like -chardev on the command line",
        static (context, options) =>
        {
            string id = options.Text("id") ?? throw new CommandException("Parameter 'id' is missing");
            Identifier.Check(id, options.Owner);
            (string type, Options flat) = Flatten(options);
            context.Host.Add(new ChardevConfig(id, type, flat));
            return new(ReturnOf(context, id));
        }) { Models = ModelKind.Chardev, Completes = [Hmp.Completions.Models(ModelKind.Chardev)] };

    public static readonly Command Change = new OptionsCommand<ChardevAddArguments, ChardevReturn>("chardev-change",
        ChardevAddJson.Default, "backend", "id args", "change chardev", static (context, options) =>
        {
            string id = options.Text("id") ?? throw new CommandException("Parameter 'id' is missing");
            if (!context.Backends.Chardevs.ContainsKey(id))
                throw new CommandException($"Chardev '{id}' does not exist");
            (string type, Options flat) = Flatten(options);
            context.Host.ChangeChardev(new ChardevConfig(id, type, flat));
            return new(ReturnOf(context, id));
        })
    {
        Models = ModelKind.Chardev,
        StartsWithId = true,
        Completes = [Hmp.Completions.Chardevs, Hmp.Completions.Models(ModelKind.Chardev)],
    };

    public static readonly Command SendBreak = new Command<ChardevRemoveArguments, Nothing>("chardev-send-break",
        ChardevAddJson.Default, static (context, arguments) =>
        {
            if (!context.Backends.Chardevs.TryGetValue(arguments.Id, out ICharBackend? chardev))
                throw new CommandException($"Chardev '{arguments.Id}' not found");
            chardev.SendBreak();
            return Nothing.Value;
        })
    {
        Human = new("chardev-send-break", "id", "send a break on chardev",
            words => new ChardevRemoveArguments(words.Word())),
        Completes = [Hmp.Completions.Chardevs],
    };

    public static readonly Command Remove = new Command<ChardevRemoveArguments, Nothing>("chardev-remove",
        ChardevAddJson.Default, static (context, arguments) =>
    {
        context.Host.RemoveChardev(arguments.Id);
        return Nothing.Value;
    })
    {
        Human = new("chardev-remove", "id", "remove chardev", words => new ChardevRemoveArguments(words.Word())),
        Completes = [Hmp.Completions.Chardevs],
    };

    static ChardevReturn ReturnOf(CommandContext context, string id)
    {
        string description = context.Backends.Chardevs[id].Description;
        return new(description.StartsWith(Terminal, StringComparison.Ordinal) ? description[Terminal.Length..] : null);
    }

    /// <summary>QMP nests by kinds what the command line has flat: {"type": "socket", "data": {"addr": {"type": "unix",
    /// "data": {"path": "/s"}}, "server": true}} is socket,path=/s,server=on.</summary>
    static (string Type, Options Flat) Flatten(Options options)
    {
        if (options.Nested("backend") is not { } backend)
        {
            string plain = options.Text("backend") ?? throw new CommandException("Parameter 'backend' is missing");
            return (plain, Options.Of(options.Owner, options.Rest));
        }
        string type = backend.Text("type") ?? throw new CommandException("Parameter 'backend.type' is missing");
        var flat = new Options(options.Owner);
        bool isDescriptor = false;
        if (backend.Nested("data") is { } data)
        {
            if (type == "socket")
            {
                // QMP's defaults are others than the command line's: a server, whose clients nobody waits for.
                bool isServer = data.Bool("server") ?? true;
                flat.Add("server", isServer ? "on" : "off");
                if (isServer && !data.Has("wait")) flat.Add("wait", "off");
            }
            foreach (string name in (string[])["addr", "remote", "local"])
            {
                if (data.Nested(name) is not { } address) continue;
                isDescriptor |= address.Text("type") == "fd";
                string prefix = name == "local" ? "local" : "";
                if (address.Nested("data") is not { } place) continue;
                foreach (OptionPair pair in place.Rest.ToArray())
                {
                    string own = pair.Name[(pair.Name.LastIndexOf('.') + 1)..];
                    string flatName = isDescriptor && own == "str" ? "fd" : prefix + own;
                    flat.Add(flatName == "localhost" ? "localaddr" : flatName, pair.Value);
                    place.Text(own);
                }
            }
            foreach (OptionPair pair in data.Rest.ToArray())
            {
                string own = pair.Name[(pair.Name.LastIndexOf('.') + 1)..];
                flat.Add(own switch { "out" or "device" => "path", "in" => "input-path", _ => own }, pair.Value);
                data.Text(own);
            }
        }
        options.Close();
        return (type, flat);
    }
}

[JsonSerializable(typeof(ChardevAddArguments))]
[JsonSerializable(typeof(ChardevReturn))]
[JsonSerializable(typeof(ChardevRemoveArguments))]
sealed partial class ChardevAddJson : JsonSerializerContext;
