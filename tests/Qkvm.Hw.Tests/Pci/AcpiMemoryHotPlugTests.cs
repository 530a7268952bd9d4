using Qkvm.Core.State;
using Qkvm.Hw.Pci;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>QEMU's docs/specs/acpi_mem_hotplug.</summary>
public sealed class AcpiMemoryHotPlugTests
{
    const ulong Selector = 0, OstEvent = 4, OstStatus = 8, Status = 0x14;
    const uint Enabled = 1, Inserting = 2, Removing = 4, Eject = 8;
    const ulong At = 0x1_2345_6000, Size = 0x2_0000_0000;

    readonly GpeBlock _gpe = new(4, () => { });
    readonly List<int> _ejected = [];
    readonly List<(int, uint, uint)> _told = [];
    readonly AcpiMemoryHotPlug _registers;

    public AcpiMemoryHotPlugTests() => _registers = Make();

    AcpiMemoryHotPlug Make() => new(3, _gpe, _ejected.Add, (slot, happened, status) =>
        _told.Add((slot, happened, status)));

    uint Read(ulong offset, int size = 4) => (uint)_registers.Read(offset, size);
    void Write(ulong offset, uint value, int size = 4) => _registers.Write(offset, size, value);
    bool IsRaised => _gpe.Read(0, 1) == 1 << AcpiMemoryHotPlug.Gpe;

    [Fact]
    public void What_comes_raises_event_3_and_tells_of_itself()
    {
        _registers.Insert(0, At, Size, 0, isNews: false);
        Assert.False(IsRaised);
        _registers.Insert(2, At, Size, 1, isNews: true);
        Assert.True(IsRaised);
        Write(Selector, 2);
        Assert.Equal((0x2345_6000u, 1u, 0u, 2u, 1u), (Read(0), Read(4), Read(8), Read(0xC), Read(0x10)));
        Assert.Equal(Enabled | Inserting, Read(Status, 1));
        Assert.Equal(0x23u, Read(3, 1));
        Write(Status, Inserting, 1);
        Assert.Equal(Enabled, Read(Status, 1));
        Write(Selector, 0);
        Assert.Equal(Enabled, Read(Status, 1));
    }

    [Fact]
    public void The_guest_lets_go_of_what_it_is_asked_for()
    {
        _registers.Insert(1, At, Size, 0, isNews: false);
        _registers.RequestRemoval(1);
        Assert.True(IsRaised);
        Write(Selector, 1);
        Assert.Equal(Enabled | Removing, Read(Status, 1));
        Write(Status, Removing, 1);
        Write(Status, Eject, 1);
        Write(Status, Eject, 1);
        Assert.Equal([1], _ejected);
        Assert.Equal(0u, Read(Status, 1));
        Write(Selector, 0);
        Write(Status, Eject, 1);                                   // an empty slot
        Assert.Single(_ejected);
    }

    [Fact]
    public void What_OST_says_is_told_with_its_event()
    {
        Write(Selector, 2);
        Write(OstEvent, 3);
        Write(OstStatus, 0x81);
        Assert.Equal([(2, 3u, 0x81u)], _told);
        Assert.Equal((3u, 0x81u), _registers.SaidOf(2));
    }

    [Fact]
    public void A_slot_that_is_not_there_reads_as_ones()
    {
        Write(Selector, 3);
        Assert.Equal((uint.MaxValue, uint.MaxValue), (Read(0), Read(0x10)));
        Write(Status, Eject, 1);
        Write(OstStatus, 1);
        Assert.Empty(_ejected);
        Assert.Empty(_told);
    }

    [Fact]
    public void Its_state_comes_back()
    {
        _registers.Insert(1, At, Size, 0, isNews: true);
        Write(Selector, 1);
        Write(OstEvent, 1);
        StateNode saved = StateNode.Save(_registers.Exchange);
        AcpiMemoryHotPlug other = Make();
        other.Insert(1, At, Size, 0, isNews: false);
        saved.Load(other.Exchange);
        Assert.Equal(saved.ToString(), StateNode.Save(other.Exchange).ToString());
        Assert.Equal(Enabled | Inserting, (uint)other.Read(Status, 1));
        other.Reset();
        other.Write(Selector, 4, 1);
        Assert.Equal(Enabled, (uint)other.Read(Status, 1));
    }
}
