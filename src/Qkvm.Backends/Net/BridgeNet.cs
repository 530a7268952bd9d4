using Qkvm.Core.Net;

namespace Qkvm.Backends.Net;

/// <summary>-netdev bridge: an interface that a helper puts into a bridge of the host.</summary>
public static class BridgeNet
{
    public static readonly NetModel Model = new("bridge",
        [
            Property.Text("br", BridgeHelper.DefaultBridge, "the bridge"),
            Property.Text("helper", BridgeHelper.DefaultPath, "the program that opens the interface"),
        ],
        static (properties, _) =>
        {
            string helper = properties.Required("helper"), bridge = properties.Required("br");
            var options = new TapOptions(properties.Required("id"), Helper: helper, Bridge: bridge);
            return new TapBackend(properties.Owner, options, $"index=0,type=tap,helper={helper},br={bridge}");
        }) { Description = "a bridge of the host, without root's rights" };
}
