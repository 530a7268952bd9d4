using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Host;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Tests.Pc;

namespace Qkvm.Machines.Tests.Q35;

/// <summary>Memory for system management mode: Intel 3 Series, order 316966, sections 5.1.24 and 5.1.25; 82441FX, order
/// 290549, section 3.2.23; and QEMU's own registers at 50h and 9Ch.</summary>
public sealed class SmramTests : IDisposable
{
    const ulong Size = 32 << 20, Window = 0xA0000, High = 0xFEDA_0000, Screen = 0x5C, MiB = 1 << 20;
    const int Tseg = 0x50, SmBase = 0x9C, Smram = 0x9D, Extended = 0x9E, I440FxSmram = 0x72;
    const byte Open = 0x40, Closed = 0x20, Lock = 0x10, Enable = 8, HighEnable = 0x80;

    readonly GuestRam _ram = new("ram", Size);
    readonly MemoryRegion _pci = MemoryRegion.Container("pci", 1UL << 40);
    readonly MemoryRegion _ramRegion;
    readonly AddressSpace _memory, _smm;
    PciBus _bus = null!;
    PciDevice _chip = null!;

    public SmramTests()
    {
        var machineLock = new MachineLock();
        var root = MemoryRegion.Container("system", 1UL << 40);
        var smm = MemoryRegion.Container("smm", 1UL << 40);
        _ramRegion = MemoryRegion.OfRam("ram", _ram, 0, Size);
        _pci.Map(Window, MemoryRegion.Io("screen", 0x20000, new ScreenBank(), AccessSizes.UpToQword));
        root.Map(0, _pci, -1);
        root.Map(0, _ramRegion);
        smm.Map(0, MemoryRegion.Alias("system", root, 0, root.Size));
        _memory = new AddressSpace("memory", root, machineLock);
        _smm = new AddressSpace("smm", smm, machineLock, _memory);
        _ram.Span(0, (int)Size).Fill(0x11);
        Use(Hub());
    }

    public void Dispose() => _ram.Dispose();

    Mch Hub(ushort megabytes = 16) => new(_memory, _ramRegion, _pci, NewBus(), _smm,
        new MchSmramOptions(Size, megabytes));

    PciBus NewBus() => _bus = TestBus.Make([.. Enumerable.Repeat<Action<bool>>(_ => { }, 4)]);

    void Use(PciDevice chip)
    {
        _chip = chip;
        _bus.Plug(chip, 0);
        chip.Reset();
    }

    void Set(int register, byte value) => _bus.WriteConfig(0, register, 1, value);
    byte Get(int register) => (byte)_bus.ReadConfig(0, register, 1);
    byte Outside(ulong at) => (byte)_memory.Read(at, 1);
    byte Inside(ulong at) => (byte)_smm.Read(at, 1);

    [Theory]
    [InlineData(0, Screen, Screen)] [InlineData(Enable, Screen, 0x11)] [InlineData(Open, 0x11, 0x11)]
    [InlineData(Open | Enable, 0x11, 0x11)] [InlineData(Open | Lock | Enable, Screen, 0x11)]
    [InlineData(Enable | Closed, Screen, 0x11)]
    public void The_window_is_shown_to_whom_SMRAM_says(byte value, byte outside, byte inside)
    {
        Set(Smram, value);
        Assert.Equal((outside, inside), (Outside(Window), Inside(Window)));
        Assert.Equal((outside, inside), (Outside(Window + 0x1FFFF), Inside(Window + 0x1FFFF)));
        Assert.Equal((0x11, 0x11), (Outside(Window - 1), Inside(Window - 1)));

        NewBus();
        Use(new I440Fx(_memory, _ramRegion, _pci, _smm));
        Set(I440FxSmram, value);
        Assert.Equal((outside, inside), (Outside(Window), Inside(Window)));
    }

    [Fact]
    public void The_lock_holds_until_the_next_reset()
    {
        Set(Extended, 0x07);
        Set(Smram, Lock | Enable);
        Set(Smram, 0xFF);
        Assert.Equal(0x3A, Get(Smram));                            // D_CLS alone changes
        Set(Smram, 0);
        Assert.Equal(0x1A, Get(Smram));
        Set(Extended, 0x80);
        Assert.Equal(0x3F, Get(Extended));
        var copy = StateNode.Save(_chip.Exchange);
        _chip.Reset();
        Assert.Equal((0x02, 0x38), (Get(Smram), Get(Extended)));
        Set(Smram, Open);
        Assert.Equal(0x11, Outside(Window));
        copy.Load(_chip.Exchange);
        Set(Smram, Open);
        Set(Extended, 0);
        Assert.Equal((0x1A, 0x3F, Screen), (Get(Smram), Get(Extended), Outside(Window)));
    }

    /// <summary>From the top of low memory down; without it, all ones and nothing that writes.</summary>
    [Theory]
    [InlineData(0, 1)] [InlineData(1, 2)] [InlineData(2, 8)] [InlineData(3, 16)]
    public void Tseg_is_seen_inside_alone(int sizeCode, int mebibytes)
    {
        ulong start = Size - (ulong)mebibytes * MiB;
        Set(Smram, Enable);
        Set(Extended, (byte)(sizeCode << 1));
        Assert.Equal(0x11, Outside(start));
        Set(Extended, (byte)(sizeCode << 1 | 1));
        foreach (ulong at in new[] { start, Size - 1 })
        {
            _memory.Write(at, 1, 0x22);
            Assert.Equal((0xFF, 0x11), (Outside(at), Inside(at)));
            _smm.Write(at, 1, 0x33);
            Assert.Equal((0xFF, 0x33), (Outside(at), Inside(at)));
        }
        Assert.Equal((0x11, 0x11), (Outside(start - 1), Inside(start - 1)));
        Assert.False(new Dma(_memory).Write(start, 4, 0));
        Set(Smram, 0);
        Assert.Equal(0x33, Outside(start));                        // G_SMRAME is off
    }

    [Fact]
    public void Without_low_memory_for_it_there_is_no_Tseg()
    {
        NewBus();
        Use(Hub(megabytes: 64));
        Set(Smram, Enable);
        Set(Extended, 0x07);
        Assert.Equal(0x11, Outside(Size - 1));
    }

    [Fact]
    public void The_high_window_shows_the_same_and_the_screen_stays()
    {
        Set(Extended, HighEnable);
        Set(Smram, Enable);
        Assert.Equal((Screen, Screen, 0xFF, 0x11), (Outside(Window), Inside(Window), Outside(High), Inside(High)));
        Set(Smram, Enable | Open);
        Assert.Equal((Screen, 0x11), (Outside(Window), Outside(High)));
    }

    [Fact]
    public void The_largest_Tseg_is_told_who_asks()
    {
        Assert.Equal(16u, _bus.ReadConfig(0, Tseg, 2));
        _bus.WriteConfig(0, Tseg, 2, 0x1234);
        Assert.Equal(0x1234u, _bus.ReadConfig(0, Tseg, 2));
        _bus.WriteConfig(0, Tseg, 2, 0xFFFF);
        Assert.Equal(16u, _bus.ReadConfig(0, Tseg, 2));
    }

    [Fact]
    public void The_first_SmBase_can_be_taken_for_good()
    {
        const ulong at = 0x30000, last = 0x4FFFF;
        Set(SmBase, 0xFF);
        Assert.Equal(1, Get(SmBase));
        Assert.Equal(0x11, Outside(at));
        Set(SmBase, 2);
        Assert.Equal((2, 0xFF, 0x11, 0xFF, 0x11), (Get(SmBase), Outside(at), Inside(at), Outside(last), Inside(last)));
        Assert.Equal((0x11, 0x11), (Outside(at - 1), Outside(last + 1)));
        Set(SmBase, 0);
        Assert.Equal((2, 0xFF), (Get(SmBase), Outside(at)));
        _chip.Reset();
        Assert.Equal((0, 0x11), (Get(SmBase), Outside(at)));
    }

    /// <summary>Many changes outside are one view inside, as outside.</summary>
    [Fact]
    public void A_batch_is_one_for_both_views()
    {
        int changes = 0;
        _smm.ViewChanged += (_, _) => changes++;
        using (_memory.Batch())
        {
            Set(Smram, Enable);
            Set(0x90, 0x30);
            Set(Extended, 1);
        }
        Assert.Equal(1, changes);
    }

    sealed class ScreenBank : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => Screen * 0x0101010101010101;
        public void Write(ulong offset, int size, ulong value) { }
    }
}
