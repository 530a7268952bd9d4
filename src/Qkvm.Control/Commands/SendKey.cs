using Qkvm.Core.Input;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Keys">Pressed in this order, released in the other.</param>
public sealed record SendKeyArguments(IReadOnlyList<KeyCode> Keys, int HoldTime = SendKeyArguments.DefaultHold)
{
    public const int DefaultHold = 100;                            // milliseconds
}

static class SendKey
{
    const ulong LongestHold = 10_000;

    public static readonly Command Command = new Command<SendKeyArguments, Nothing>(null, null, Run)
    {
        Human = new("sendkey", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold " +
            "time=100 ms)", words =>
        {
            KeyCode[] keys = [.. words.Word("keys").Split('-').Select(KeyNames.Find)];
            return new SendKeyArguments(keys, words.Left > 0 ? (int)Math.Min(words.Number("hold_ms"), LongestHold)
                : SendKeyArguments.DefaultHold);
        }),
    };

    static Nothing Run(CommandContext context, SendKeyArguments arguments)
    {
        IBoard board = context.Machine.Board;
        foreach (KeyCode key in arguments.Keys) board.Input.Key(key, true);
        // The keys come up later; the monitor does not wait for them.
        _ = Task.Delay(arguments.HoldTime).ContinueWith(_ => board.Post(() =>
        {
            foreach (KeyCode key in Enumerable.Reverse(arguments.Keys)) board.Input.Key(key, false);
        }), TaskScheduler.Default);
        return Nothing.Value;
    }
}
