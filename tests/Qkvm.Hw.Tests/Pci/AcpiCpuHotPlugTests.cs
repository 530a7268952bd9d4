using Qkvm.Core.State;
using Qkvm.Hw.Pci;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>QEMU's docs/specs/acpi_cpu_hotplug.</summary>
public sealed class AcpiCpuHotPlugTests
{
    const ulong Selector = 0, Data2 = 0, Status = 4, Command = 5, Data = 8;
    const uint Enabled = 1, Inserting = 2, Removing = 4, Eject = 8;

    readonly GpeBlock _gpe = new(4, () => { });
    readonly List<int> _ejected = [];
    readonly List<(int, uint, uint)> _told = [];
    readonly AcpiCpuHotPlug _registers;

    public AcpiCpuHotPlugTests()
    {
        _registers = Make();
        _registers.Insert(0, isNews: false);
        _registers.Insert(1, isNews: false);
    }

    AcpiCpuHotPlug Make() => new([0, 1, 4, 5], _gpe, _ejected.Add, (cpu, happened, status) =>
        _told.Add((cpu, happened, status)));

    uint Read(ulong offset, int size = 4) => (uint)_registers.Read(offset, size);
    void Write(ulong offset, uint value, int size = 4) => _registers.Write(offset, size, value);
    bool IsRaised => _gpe.Read(0, 1) == 1 << AcpiCpuHotPlug.Gpe;

    /// <summary>"Detecting and enabling modern CPU hotplug interface" and "Enumerate CPUs".</summary>
    [Fact]
    public void Firmware_counts_the_processors()
    {
        Write(Selector, 0);
        Write(Selector, 0);
        Write(Command, 0, 1);
        Assert.Equal(0u, Read(Data2));
        var present = new List<bool>();
        do
        {
            present.Add((Read(Status, 1) & Enabled) != 0);
            Write(Selector, (uint)present.Count);
        }
        while (Read(Data) != 0);
        Assert.Equal([true, true, false, false], present);
    }

    [Fact]
    public void One_that_comes_raises_event_2_and_is_found_until_it_is_cleared()
    {
        Assert.False(IsRaised);
        _registers.Insert(3, isNews: true);
        Assert.True(IsRaised);
        Write(Selector, 1);
        Write(Command, 0, 1);
        Assert.Equal((3u, Enabled | Inserting), (Read(Data), Read(Status, 1)));
        Write(Status, Inserting, 1);
        Assert.Equal(Enabled, Read(Status, 1));
        Write(Selector, 1);
        Write(Command, 0, 1);
        Assert.Equal(1u, Read(Data));                              // nobody has news: the selector stays
    }

    [Fact]
    public void The_guest_lets_go_of_one_that_it_is_asked_for()
    {
        _registers.RequestRemoval(1);
        Assert.True(IsRaised);
        Write(Selector, 0);
        Write(Command, 0, 1);
        Assert.Equal((1u, Enabled | Removing), (Read(Data), Read(Status, 1)));
        Write(Status, Removing, 1);
        Assert.Empty(_ejected);
        Write(Status, Eject, 1);
        Assert.Equal([1], _ejected);
        Assert.Equal(0u, Read(Status, 1));
        Write(Status, Eject, 1);
        Assert.Single(_ejected);
    }

    [Fact]
    public void The_boot_processor_and_one_that_is_not_there_cannot_be_let_go()
    {
        Write(Selector, 0);
        Write(Status, Eject, 1);
        Write(Selector, 2);
        Write(Status, Eject, 1);
        Assert.Empty(_ejected);
        Assert.True(_registers.IsPresent(0));
    }

    [Fact]
    public void Each_has_the_id_of_its_local_APIC()
    {
        Write(Selector, 3);
        Write(Command, 3, 1);
        Assert.Equal((5u, 0u), (Read(Data), Read(Data2)));
    }

    [Fact]
    public void What_OST_says_is_told_with_its_event()
    {
        Write(Selector, 2);
        Write(Command, 1, 1);
        Write(Data, 0x103);
        Assert.Empty(_told);
        Write(Command, 2, 1);
        Write(Data, 0x84);
        Assert.Equal([(2, 0x103u, 0x84u)], _told);
        Assert.Equal((0x103u, 0x84u), _registers.SaidOf(2));
        Assert.Equal((0u, 0u), _registers.SaidOf(1));
    }

    [Fact]
    public void Without_a_selected_processor_registers_are_silent()
    {
        Write(Selector, 4);
        Write(Command, 3, 1);
        Assert.Equal((0u, 0u), (Read(Status, 1), Read(Data)));
        Write(Selector, uint.MaxValue);
        Write(Status, Eject, 1);
        Assert.Empty(_ejected);
    }

    [Fact]
    public void Its_state_comes_back()
    {
        _registers.RequestRemoval(1);
        Write(Selector, 1);
        Write(Command, 1, 1);
        Write(Data, 3);
        StateNode saved = StateNode.Save(_registers.Exchange);
        AcpiCpuHotPlug other = Make();
        other.Insert(0, isNews: false);
        other.Insert(1, isNews: false);
        saved.Load(other.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(other.Exchange).ToString());
        Assert.Equal(Enabled | Removing, (uint)other.Read(Status, 1));
        other.Reset();
        Assert.Equal(Enabled, (uint)other.Read(Status, 1));
    }
}
