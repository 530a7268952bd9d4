using System.Text.Json.Serialization;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Control.Commands;

/// <param name="Protocol">"vnc".</param>
/// <param name="Fdname">A connected socket that getfd has taken.</param>
/// <param name="Skipauth">Nobody asks this client for a password.</param>
/// <param name="Tls">SPICE's.</param>
public sealed record AddClientArguments(string Protocol, string Fdname, bool? Skipauth = null, bool? Tls = null);

/// <summary>add_client: somebody else has connected a viewer, and passes its socket on.</summary>
static class AddClient
{
    public static readonly Command Command = new Command<AddClientArguments, Nothing>("add_client",
        AddClientJson.Default, static (context, arguments) =>
        {
            int fd;
            try { fd = context.Host.Descriptors.Take(arguments.Fdname, "fdname"); }
            catch (ConfigurationException e)
            {
                throw new CommandException($"File descriptor named '{arguments.Fdname}' has not been found", inner: e);
            }
            try
            {
                Server(context, arguments.Protocol).AddClient(fd, asksPassword: arguments.Skipauth != true);
                return Nothing.Value;
            }
            catch (Exception e) when (e is CommandException or ConfigurationException)
            {
                Libc.close(fd);
                throw e as CommandException ?? new CommandException(e.Message, inner: e);
            }
        });

    static IRemoteDisplay Server(CommandContext context, string protocol) => protocol switch
    {
        "vnc" => context.Backends.RemoteDisplays.FirstOrDefault()
            ?? throw new CommandException("VNC is not in use", ErrorClass.DeviceNotActive),
        "spice" => throw new CommandException("SPICE is not in use", ErrorClass.DeviceNotActive),
        _ => throw new CommandException($"protocol '{protocol}' is invalid"),
    };
}

[JsonSerializable(typeof(AddClientArguments))]
sealed partial class AddClientJson : JsonSerializerContext;
