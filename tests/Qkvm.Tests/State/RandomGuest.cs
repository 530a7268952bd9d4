using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Machines;

namespace Qkvm.Tests.State;

/// <summary>A guest out of its mind, always in the same way: reads and writes of all sizes at the ports, registers and
/// configuration spaces of a board.</summary>
sealed class RandomGuest(Board board, int seed)
{
    const int ConfigAddress = 0xCF8, ConfigData = 0xCFC;
    static readonly int[] Sizes = [1, 1, 2, 4, 8];

    readonly Random _random = new(seed);

    public void Run(int accesses)
    {
        for (int i = 0; i < accesses; i++)
        {
            switch (_random.Next(10))
            {
                case 0: Configure(); break;
                case 1: Access(board.Ports, (ulong)_random.Next(0x10000), 4); break;
                case <= 5: Inside(board.Ports, 4); break;
                default: Inside(board.Memory, 8); break;
            }
        }
    }

    /// <summary>Registers of one function: its configuration space and what its BARs show.</summary>
    public void Run(PciDevice function, int accesses)
    {
        for (int i = 0; i < accesses; i++)
        {
            MemoryRegion?[] shown = [.. function.BarRegions.Where(r => r?.Parent != null)];
            if (shown.Length == 0 || _random.Next(8) == 0)
            {
                function.Bus.WriteConfig(function.DevFn, _random.Next(0x40, 0x100), 1, (uint)Value());
                continue;
            }
            MemoryRegion region = shown[_random.Next(shown.Length)]!;
            AddressSpace space = region.Parent == function.Bus.IoSpace ? board.Ports : board.Memory;
            Access(space, region.Address + (ulong)_random.NextInt64((long)Math.Min(region.Size, 0x4000)),
                space == board.Ports ? 4 : 8);
        }
    }

    /// <summary>The ranges of registers that a view shows and another did not.</summary>
    public void RunNew(AddressSpace space, FlatView before, int accesses)
    {
        var known = new HashSet<(ulong, string)>();
        foreach (ref readonly FlatRange range in before.Ranges) known.Add((range.Start, range.Region.Name));
        for (int i = 0; i < accesses; i++)
        {
            var fresh = new List<FlatRange>();
            foreach (ref readonly FlatRange range in space.View.Ranges)
                if (range.Region.Kind == RegionKind.Io && !known.Contains((range.Start, range.Region.Name)))
                    fresh.Add(range);
            if (fresh.Count == 0) return;
            FlatRange chosen = fresh[_random.Next(fresh.Count)];
            Access(space,
                chosen.Start + (ulong)_random.NextInt64((long)Math.Min(chosen.End - chosen.Start, 0x4000)), 4);
        }
    }

    void Configure()
    {
        if (board.Pci is not { } bus) return;
        PciDevice[] functions = [.. bus.Devices];
        PciDevice function = functions[_random.Next(functions.Length)];
        int register = _random.Next(0x100);
        board.Ports.Write(ConfigAddress, 4, 0x8000_0000u | (uint)function.DevFn << 8 | (uint)(register & 0xFC));
        Access(board.Ports, ConfigData + (ulong)(register & 3), 4);
    }

    void Inside(AddressSpace space, int largest)
    {
        ReadOnlySpan<FlatRange> ranges = space.View.Ranges;
        FlatRange range = ranges[_random.Next(ranges.Length)];
        ulong length = range.End - range.Start;
        ulong within = _random.Next(4) == 0 ? (ulong)_random.NextInt64((long)length)
            : (ulong)_random.NextInt64((long)Math.Min(length, 0x400));
        if (range.Ram == null || _random.Next(20) == 0) Access(space, range.Start + within, largest);
    }

    void Access(AddressSpace space, ulong address, int largest)
    {
        int size = Sizes[_random.Next(Sizes.Length)];
        if (size > largest) size = largest;
        if (_random.Next(3) == 0) space.Read(address, size);
        else space.Write(address, size, Value());
    }

    ulong Value() => _random.Next(5) switch
    {
        0 => 0,
        1 => ulong.MaxValue,
        2 => 1UL << _random.Next(64),
        3 => (ulong)_random.Next(0x100),
        _ => (ulong)_random.NextInt64() ^ (ulong)_random.NextInt64() << 1,
    };
}
