using Qkvm.Core.Irq;

namespace Qkvm.Machines;

/// <summary>Global system interrupts: any number of wires OR-ed to one input of the interrupt controllers.</summary>
/// <param name="drive">(gsi, level), when an input's level changes.</param>
public sealed class GsiRouter(int inputs, Action<int, bool> drive)
{
    readonly List<IrqLine>[] _wires = [.. Enumerable.Range(0, inputs).Select(_ => new List<IrqLine>())];
    readonly bool[] _levels = new bool[inputs];                    // derived from the wires

    public IrqLine NewWire(int gsi)
    {
        var wire = new IrqLine($"gsi{gsi}", _ => Changed(gsi));
        _wires[gsi].Add(wire);
        return wire;
    }

    /// <summary>Takes a wire away that is low.</summary>
    public void Remove(int gsi, IrqLine wire) => _wires[gsi].Remove(wire);

    public bool Level(int gsi) => _levels[gsi];

    /// <summary>After loading state: takes the wires' levels over without an edge; the controllers loaded their
    /// own.</summary>
    public void Restore()
    {
        for (int gsi = 0; gsi < _levels.Length; gsi++) _levels[gsi] = Combined(gsi);
    }

    void Changed(int gsi)
    {
        bool level = Combined(gsi);
        if (_levels[gsi] == level) return;
        _levels[gsi] = level;
        drive(gsi, level);
    }

    bool Combined(int gsi)
    {
        List<IrqLine> wires = _wires[gsi];
        for (int i = 0; i < wires.Count; i++)
            if (wires[i].Level) return true;
        return false;
    }
}
