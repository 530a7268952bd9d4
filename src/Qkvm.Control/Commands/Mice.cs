using System.Text.Json.Serialization;
using Qkvm.Control.Hmp;
using Qkvm.Core.Input;

namespace Qkvm.Control.Commands;

/// <param name="Index">mouse_set's.</param>
/// <param name="Current">It gets what the user does.</param>
/// <param name="Absolute">It takes positions and not movements.</param>
public sealed record MouseInfo(string Name, int Index, bool Current, bool Absolute);

static class Mice
{
    const uint Keyboard = 1;

    public static readonly Command Query = new Command<Nothing, IReadOnlyList<MouseInfo>>("query-mice",
        MiceJson.Default, static (context, _) => [.. context.Machine.Board.Input.Pointers.Select((p, place) =>
            new MouseInfo(p.Pointer.Name, p.Number, place == 0, p.Pointer.IsAbsolute))])
    {
        Human = new("info mice", "", "show which guest mouse is receiving events", null, static (monitor, mice) =>
        {
            if (mice.Count == 0) monitor.Write("No mouse devices connected\n");
            foreach (MouseInfo mouse in mice)
                monitor.Write($"{(mouse.Current ? "*" : " ")} Mouse #{mouse.Index}: {mouse.Name}"
                    + $"{(mouse.Absolute ? " (absolute)" : "")}\n");
        }),
    };

    public static readonly Command Set = new HumanCommand("mouse_set", "index", "set which mouse device receives "
        + "events", static (monitor, words) =>
        {
            uint index = words.Integer();
            words.End();
            InputRouter input = monitor.Context.Machine.Board.Input;
            IPointerSink? pointer = input.Pointers.FirstOrDefault(p => p.Number == index).Pointer;
            if (pointer != null) input.Prefer(pointer);
            else monitor.Write(index == Keyboard ? "Input device 'QEMU PS/2 Keyboard' is not a mouse\n"
                : $"Mouse at index '{(int)index}' not found\n");
        });
}

[JsonSerializable(typeof(IReadOnlyList<MouseInfo>))]
sealed partial class MiceJson : JsonSerializerContext;
