using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;

namespace Qkvm.Control.Commands;

/// <param name="Name">A netdev's id, or a card's as `info network` shows it.</param>
public sealed record SetLinkArguments(string Name, bool Up);

/// <summary>set_link: pulls the cable of a card or of a netdev, and plugs it. With a netdev's its card is told,
/// too.</summary>
static class SetLink
{
    public static readonly Command Command = new Command<SetLinkArguments, Nothing>("set_link", SetLinkJson.Default,
        static (context, arguments) =>
        {
            (string name, bool up) = arguments;
            NetBackend? netdev = context.Backends.Netdevs.GetValueOrDefault(name);
            bool isKnown = netdev != null;
            if (netdev != null) netdev.Link.IsUp = up;
            foreach ((string cardName, string _, INetCard card) in Network.CardsOf(context))
            {
                if (cardName != name && (netdev == null || card.Backend?.Id != name)) continue;
                card.SetLink(up);
                isKnown = true;
            }
            return isKnown ? Nothing.Value : throw CommandException.DeviceNotFound(name);
        })
    {
        Human = new("set_link", "name on|off", "change the link status of a network adapter", static words =>
            new SetLinkArguments(words.Word(), words.Switch())),
        Completes = [Completions.Links, Completions.OnOff],
    };
}

[JsonSerializable(typeof(SetLinkArguments))]
sealed partial class SetLinkJson : JsonSerializerContext;
