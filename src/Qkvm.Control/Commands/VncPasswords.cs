using System.Globalization;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Display;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<RemoteProtocol>))]
public enum RemoteProtocol { Vnc, Spice }

/// <summary>What happens to those who watch already.</summary>
[JsonConverter(typeof(NamedEnum<PasswordAction>))]
public enum PasswordAction { Keep, Fail, Disconnect }

/// <param name="Display">The server's id; null for the first.</param>
public sealed record SetPasswordArguments(RemoteProtocol Protocol, string Password, PasswordAction? Connected = null,
    string? Display = null);

/// <param name="Time">"now", "never", "+" and seconds from now, or seconds since 1970.</param>
/// <param name="Display">The same.</param>
public sealed record ExpirePasswordArguments(RemoteProtocol Protocol, string Time, string? Display = null);

/// <summary>The password that viewers of a VNC server with password=on are asked for.</summary>
static class VncPasswords
{
    const string InvalidConnected = "Invalid parameter 'connected'";

    public static readonly Command SetPassword = new Command<SetPasswordArguments, Nothing>("set_password",
        VncPasswordJson.Default, static (context, arguments) =>
        {
            MustBeVnc(arguments.Protocol);
            if (arguments.Connected is not (null or PasswordAction.Keep)) throw new CommandException(InvalidConnected);
            Set(context, arguments.Password, arguments.Display);
            return Nothing.Value;
        })
    {
        Human = new("set_password", "protocol password [-d display] [action-if-connected]", "set spice/vnc password",
            static words =>
            {
                RemoteProtocol protocol = Parse<RemoteProtocol>(words.Word());
                string password = words.Word();
                string? display = words.Flag('d') ? words.Word() : null;
                string? action = words.Optional();
                return new(protocol, password, action == null ? null : Parse<PasswordAction>(action), display);
            }),
        Completes = [Completions.Words("vnc", "spice")],
    };

    public static readonly Command Expire = new Command<ExpirePasswordArguments, Nothing>("expire_password",
        VncPasswordJson.Default, static (context, arguments) =>
        {
            MustBeVnc(arguments.Protocol);
            DateTimeOffset? when = TimeOf(arguments.Time);
            if (Find(context, arguments.Display) is not { } server)
                throw new CommandException("Could not set password expire time");
            server.ExpirePassword(when);                           // without a password there is nothing to end
            return Nothing.Value;
        })
    {
        Human = new("expire_password", "protocol time [-d display]", "set spice/vnc password expire-time",
            static words =>
            {
                RemoteProtocol protocol = Parse<RemoteProtocol>(words.Word());
                string time = words.Word();
                return new(protocol, time, words.Flag('d') ? words.Word() : null);
            }),
        Completes = [Completions.Words("vnc", "spice")],
    };

    /// <param name="display">The server's id; null for the first.</param>
    public static void Set(CommandContext context, string password, string? display)
    {
        if (Find(context, display)?.SetPassword(password) != true)
            throw new CommandException("Could not set password; only a server of -vnc …,password=on asks for one");
    }

    static IRemoteDisplay? Find(CommandContext context, string? display) =>
        context.Backends.RemoteDisplays.Find(server => display == null || server.Query().Id == display);

    static void MustBeVnc(RemoteProtocol protocol)
    {
        if (protocol == RemoteProtocol.Spice)
            throw new CommandException("SPICE is not in use", ErrorClass.DeviceNotActive);
    }

    static DateTimeOffset? TimeOf(string text)
    {
        if (text == "never") return null;
        DateTimeOffset now = DateTimeOffset.UtcNow;
        if (text == "now") return now;
        bool isFromNow = text.StartsWith('+');
        if (uint.TryParse(text.AsSpan(isFromNow ? 1 : 0), NumberStyles.None, null, out uint seconds))
            return isFromNow ? now.AddSeconds(seconds) : DateTimeOffset.FromUnixTimeSeconds(seconds);
        throw new CommandException($"time '{text}' is none of now, never, +SECONDS from now, SECONDS since 1970");
    }

    static T Parse<T>(string word) where T : struct, Enum =>
        !char.IsDigit(word[0]) && Enum.TryParse(word, ignoreCase: true, out T value) ? value
            : throw new CommandException($"invalid parameter value: {word}");
}

[JsonSerializable(typeof(SetPasswordArguments))]
[JsonSerializable(typeof(ExpirePasswordArguments))]
sealed partial class VncPasswordJson : JsonSerializerContext;
