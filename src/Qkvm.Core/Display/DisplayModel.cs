using Qkvm.Core.Input;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Core.Display;

/// <summary>What a display shows, and whom it tells.</summary>
/// <param name="Source">The screen; null for a machine without.</param>
/// <param name="Title">For windows and viewers.</param>
/// <param name="Print">Prints a line for the user.</param>
public sealed record DisplayParts(IDisplaySource? Source, InputRouter Input, EventLoop Loop, string Title,
    Action<string> Print)
{
    /// <summary>Objects that options name.</summary>
    public MachineBackends Backends { get; init; } = new();

    /// <summary>For viewers that may switch the machine.</summary>
    public PowerButtons Power { get; init; } = new(static () => { }, static () => { });

    /// <summary>Tells the user on stderr.</summary>
    public Action<string> Warn { get; init; } = static _ => { };

    /// <summary>Tells monitors' clients.</summary>
    public Action<MachineEvent> Raise { get; init; } = static _ => { };
}

/// <summary>What a machine's case has. Under the machine lock.</summary>
public sealed record PowerButtons(Action PowerDown, Action Reset);

/// <summary>A way to see the screen, as -display names it.</summary>
/// <remarks>What is made is closed when the program ends; an <see cref="IRemoteDisplay"/> is listed by
/// monitors.</remarks>
public sealed record DisplayModel(string Name, Property[] Properties, Func<Properties, DisplayParts,
    IDisposable?> Create)
    : Model<DisplayParts, IDisposable?>(Name, Properties, Create)
{
    /// <summary>A display that QEMU has and we have not.</summary>
    public static DisplayModel Missing(string name, string why) =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };
}
