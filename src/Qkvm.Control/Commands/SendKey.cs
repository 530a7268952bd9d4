using System.Text.Json;
using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Input;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<KeyKind>))]
public enum KeyKind { Number, Qcode }

/// <param name="Data">A scan code of set 1, with bit 7 for the E0 prefix; or sendkey's name.</param>
public sealed record KeyValue(KeyKind Type, JsonElement Data);

/// <param name="Keys">Pressed in this order, released in the other.</param>
/// <param name="HoldTime">Milliseconds.</param>
public sealed record SendKeyArguments(IReadOnlyList<KeyValue> Keys, int HoldTime = SendKeyArguments.DefaultHold)
{
    public const int DefaultHold = 100;
}

static class SendKey
{
    const int LongestHold = 10_000, MostKeys = 16;
    const int Extended = 0x80, ExtendedPrefix = 0xE000, PauseNumber = 0xC6;

    public static readonly Command Command = new Command<SendKeyArguments, Nothing>("send-key", SendKeyJson.Default,
        Run)
    {
        Human = new("sendkey", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold " +
            "time=100 ms)", words =>
        {
            string[] names = words.Word().Split('-');
            foreach (string name in names)
                if (!KeyNames.IsKnown(name)) throw new MonitorException($"invalid parameter: {name}");
            KeyValue[] keys = [.. names.Select(name => new KeyValue(KeyKind.Qcode,
                JsonDocument.Parse($"\"{JsonEncodedText.Encode(name)}\"").RootElement))];
            return new SendKeyArguments(keys, words.HasMore ? (int)Math.Min(words.Integer(), LongestHold)
                : SendKeyArguments.DefaultHold);
        }),
        Completes = [Completions.Keys],
    };

    static Nothing Run(CommandContext context, SendKeyArguments arguments)
    {
        IBoard board = context.Machine.Board;
        if (arguments.Keys.Count > MostKeys) throw new CommandException("too many keys");
        KeyCode[] keys = [.. arguments.Keys.Select(Find)];
        int hold = Math.Clamp(arguments.HoldTime, 1, LongestHold);
        foreach (KeyCode key in keys) board.Input.Key(key, true);
        // The keys come up later; the monitor does not wait for them.
        _ = Task.Delay(hold).ContinueWith(_ => board.Post(() =>
        {
            foreach (KeyCode key in keys.Reverse()) board.Input.Key(key, false);
        }), TaskScheduler.Default);
        return Nothing.Value;
    }

    static KeyCode Find(KeyValue key)
    {
        if (key.Type == KeyKind.Qcode)
            return KeyNames.Find(key.Data.ValueKind == JsonValueKind.String ? key.Data.GetString()! : "");
        int number = key.Data.ValueKind == JsonValueKind.Number && key.Data.TryGetInt32(out int value) ? value : 0;
        var code = (KeyCode)(number == PauseNumber ? (int)KeyCode.Pause
            : (number & Extended) != 0 ? ExtendedPrefix | number & ~Extended : number);
        return code != KeyCode.None && Enum.IsDefined(code) ? code
            : throw new CommandException($"no key has the number {key.Data}");
    }
}

[JsonSerializable(typeof(SendKeyArguments))]
sealed partial class SendKeyJson : JsonSerializerContext;
