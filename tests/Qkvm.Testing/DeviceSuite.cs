using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.State;
using Xunit;

namespace Qkvm.Testing;

/// <summary>Clock and wires for one device under test; the wires count their edges.</summary>
public sealed class DeviceBench(FakeClock clock)
{
    readonly List<IrqLine> _wires = [];

    public FakeClock Clock { get; } = clock;
    public int Edges { get; private set; }
    public string Levels => string.Join(' ', _wires.Select(w => $"{w.Name}={w.Level}"));

    public IrqLine Wire(string name)
    {
        var wire = new IrqLine(name, _ => Edges++);
        _wires.Add(wire);
        return wire;
    }
}

/// <summary>What every device promises about its state: Reset equals new; a saved state loaded into a new device saves
/// again equal, raises no edge, restores the wires' levels, and goes on as the old one does.</summary>
public static class DeviceSuite
{
    const long SomeTime = 2_345_678_901;

    /// <param name="drive">Brings the device into a state unlike a new one's.</param>
    /// <param name="kept">Fields that survive Reset (a battery, a start time).</param>
    public static void Check(Func<DeviceBench, IDevice> make, Action<IDevice> drive, params string[] kept)
    {
        var clock = new FakeClock();
        clock.Advance(1_000_000);
        var usedBench = new DeviceBench(clock);
        IDevice used = make(usedBench);
        drive(used);
        clock.Advance(1_000_000);
        Assert.NotEqual(Save(make(new DeviceBench(clock))), Save(used));

        var loadedBench = new DeviceBench(clock);
        IDevice loaded = make(loadedBench);
        int edges = loadedBench.Edges;
        StateNode.Save(used.Exchange).Load(loaded.Exchange);
        Assert.Equal(edges, loadedBench.Edges);
        Assert.Equal(Save(used), Save(loaded));
        Assert.Equal(usedBench.Levels, loadedBench.Levels);

        clock.Advance(SomeTime);
        Assert.Equal(Save(used), Save(loaded));
        Assert.Equal(usedBench.Levels, loadedBench.Levels);

        used.Reset();
        var freshBench = new DeviceBench(clock);
        IDevice fresh = make(freshBench);
        Assert.Equal(Without(Save(fresh), kept), Without(Save(used), kept));
        Assert.Equal(freshBench.Levels, usedBench.Levels);
    }

    static string Save(IDevice device) => StateNode.Save(device.Exchange).ToString();

    static string Without(string state, string[] names) =>
        string.Join('\n', state.Split('\n').Where(line => !names.Any(name => line.StartsWith($"{name} ",
            StringComparison.Ordinal))));
}
