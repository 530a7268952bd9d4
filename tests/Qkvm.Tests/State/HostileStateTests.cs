using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Testing;

namespace Qkvm.Tests.State;

/// <summary>Saved states that were cut, forged or are another machine's: each is loaded as a whole or refused as a
/// whole by an error that names the place, and whatever was loaded survives its guest. Takes a sample of the fields of
/// all chips and devices, each by itself.</summary>
public class HostileStateTests
{
    [Theory]
    [InlineData(1, false, false)] [InlineData(2, true, false)] [InlineData(3, false, true)]
    public void A_board_with_all_devices_loads_all_or_nothing(int seed, bool q35, bool microvm)
    {
        var clock = new FakeClock();
        using var bench = new StateBench(clock, null, ownIrqChips: true, everything: true, q35, microvm);
        new RandomGuest(bench.Board, seed).Run(5000);
        clock.Advance(1_000_000);
        bench.Settle();
        Attack(() => bench.Save(), state => bench.Load(bench, state), new Random(seed), loaded =>
        {
            clock.Advance(1_000_000);
            bench.Settle();
            new RandomGuest(bench.Board, loaded).Run(20);
        });
    }

    [Fact]
    public void A_software_CPU_loads_all_or_nothing()
    {
        using var accelerator = new TcgAccelerator();
        var machineLock = new MachineLock();
        accelerator.Attach(new AddressSpace("memory", MemoryRegion.Container("memory", 1UL << 40), machineLock),
            new AddressSpace("ports", MemoryRegion.Container("ports", 0x10000), machineLock), machineLock);
        IVCpu cpu = accelerator.CreateVCpu(0, new CpuSetup("max", [], 0, 1, 1, 1));
        Attack(() => StateNode.Save(cpu.Exchange), state => state.Load(cpu.Exchange), new Random(1), _ =>
        {
            cpu.DumpRegisters();
            cpu.TryTranslate(0x1234, out ulong _);
        });
    }

    /// <summary>Forges each value of a state in several ways, one at a time.</summary>
    static void Attack(Func<StateNode> save, Action<StateNode> load, Random random, Action<int> use)
    {
        StateNode good = save();
        int refused = 0, loaded = 0;
        var faults = new List<string>();
        foreach (string[] place in Samples(Places(good, []), random))
            for (int way = 0; way < 5; way++)
            {
                StateNode forged = Clone(good);
                if (!Forge(Find(forged, place[..^1]), place[^1], way, random)) continue;
                string before = Timeless(save()), where = $"{string.Join('.', place)}, way {way}";
                try
                {
                    load(forged);
                    loaded++;
                    // a shorter queue is a queue too
                    if (way is 0 or 2) faults.Add($"{where}: absent or surplus state was taken");
                    use(loaded);
                    load(good);
                }
                catch (InvalidStateException e)
                {
                    refused++;
                    string named = place[^1] == "#version" ? place[^2] : place[^1];
                    if (way < 2 && !e.Message.Contains(named, StringComparison.Ordinal))
                        faults.Add($"{where}: '{e.Message}' does not name it");
                    if (before != Timeless(save())) faults.Add($"{where}: refused ('{e.Message}') and yet changed");
                }
                catch (Exception e)
                {
                    faults.Add($"{where}: {e}");
                    load(good);
                }
            }
        Assert.True(faults.Count == 0, string.Join('\n', faults.Select(f => f[..Math.Min(f.Length, 600)])));
        Assert.True(refused > 100 && loaded > 50, $"{refused} refused, {loaded} loaded");
    }

    /// <summary>0: absent; 1: too large or cut; 2: surplus; 3: one bit; 4: something else.</summary>
    static bool Forge(StateNode group, string name, int way, Random random)
    {
        if (way == 2)
        {
            if (random.Next(8) != 0) return false;                 // the same group, again and again
            group.Add("surplus", 1);
            return true;
        }
        if (way == 0) return group.Remove(name);
        if (group.Numbers.TryGetValue(name, out ulong number))
        {
            // many fields are 64 bits wide; those that are not refuse way 4's
            if (way == 1) return false;
            group.Add(name, way == 3 ? number ^ 1UL << random.Next(64)
                : (ulong)random.NextInt64() << 1 ^ (ulong)random.Next(2));
        }
        else if (group.Blocks.TryGetValue(name, out byte[]? block))
        {
            if (block.Length == 0) return false;
            byte[] other = way == 1 ? block[..^1] : (byte[])block.Clone();
            if (way == 3) other[random.Next(other.Length)] ^= (byte)(1 << random.Next(8));
            if (way == 4) random.NextBytes(other);
            group.Add(name, other);
        }
        else return false;
        return true;
    }

    static IEnumerable<string[]> Places(StateNode node, string[] path) =>
        node.Numbers.Keys.Concat(node.Blocks.Keys).Select(name => (string[])[.. path, name])
            .Concat(node.Groups.SelectMany(g => Places(g.Value, [.. path, g.Key]).Prepend([.. path, g.Key])));

    /// <summary>Each attack saves and loads the whole board: so many are made in a reasonable time.</summary>
    static IEnumerable<string[]> Samples(IEnumerable<string[]> places, Random random)
    {
        string[][] all = [.. places];
        random.Shuffle(all);
        return all.Take(MostPlaces);
    }

    const int MostPlaces = 300;

    static StateNode Find(StateNode node, string[] path) => path.Aggregate(node, (at, name) => at.Groups[name]);

    static StateNode Clone(StateNode node)
    {
        var copy = new StateNode();
        Fill(node, copy);
        return copy;

        static void Fill(StateNode from, StateNode to)
        {
            foreach (var (name, value) in from.Numbers) to.Add(name, value);
            foreach (var (name, value) in from.Blocks) to.Add(name, (byte[])value.Clone());
            foreach (var (name, group) in from.Groups) Fill(group, to.AddGroup(name));
        }
    }

    /// <summary>The time stamp counter runs on.</summary>
    static string Timeless(StateNode state) =>
        string.Join('\n', state.ToString().Split('\n')
        .Where(line => !line.Contains("tsc =", StringComparison.Ordinal)));
}
