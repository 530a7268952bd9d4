using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>A20M#: with the gate closed bit 20 of a processor's physical addresses is zero. Intel SDM vol. 3, section
/// 20.1.1.</summary>
public sealed unsafe class A20Tests
{
    const byte Close = 0x90, Open = 0x91, End = 0x92;

    /// <summary>Reads a byte at 1 MiB and above with the gate open, closed by an OUT, and open again; writes while it
    /// is closed.</summary>
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void Addresses_wrap_from_the_next_instruction_on(bool translated, bool paging)
    {
        using SystemMachine m = paging ? new M().Long64() : new M().Protected32();
        m.Write(M.Data, 0x11, 1);
        m.Write(0x100000 + M.Data, 0x22, 1);
        m.Write(0x100000 + M.Data + 1, 0x33, 1);
        m.Ports.OnWrite = () =>
        {
            ulong port = m.Ports.Writes[^1].Port;
            if (port == End) m.Cpu.Kick();
            else m.Cpu.SetA20(open: port == Open);
        };
        m.Cpu.Rbx = 0x100000 + M.Data;
        (m.Cpu.Rcx, m.Cpu.Rdx, m.Cpu.Rsi) = (0, 0, 0);
        byte[] readCl = [0x8A, 0x0B], readDl = [0x8A, 0x13], readDh = [0x8A, 0x33], write = [0xC6, 0x43, 0x01, 0x44];
        m.Place([.. readCl, 0xE6, Close, .. readDl, .. write, 0xE6, Open, .. readDh, 0xE6, End]);
        m.Cpu.Translates = translated;
        m.Cpu.ModeChanged();
        m.Cpu.Run();
        Assert.Equal((0x22ul, 0x11ul, 0x22ul), (m.Cpu.Rcx & 0xFF, m.Cpu.Rdx & 0xFF, m.Cpu.Rdx >> 8 & 0xFF));
        Assert.Equal((0x44ul, 0x33ul), (m.Read(M.Data + 1, 1), m.Read(0x100000 + M.Data + 1, 1)));
    }

    /// <summary>KVM's slots: the second megabyte is the first once more; what lies in registers there is masked at the
    /// exit.</summary>
    [Fact]
    public void Kvms_slots_wrap_below_two_megabytes()
    {
        using var ram = new GuestRam("ram", 4 << 20);
        var root = MemoryRegion.Container("memory", 1UL << 32);
        root.Map(0, MemoryRegion.OfRam("low", ram, 0, 0xA0000));
        root.Map(0xC0000, MemoryRegion.OfRam("high", ram, 0xC0000, (4 << 20) - 0xC0000));
        var space = new AddressSpace("memory", root, new MachineLock());
        KvmMemory.Slot[] slots = [.. KvmMemory.Wrapped(KvmMemory.Wanted(space.View)).OrderBy(slot => slot.Start)];
        Assert.Equal([(0ul, 0xA0000ul, 0ul), (0xC0000, 0x40000, 0xC0000), (0x100000, 0xA0000, 0),
            (0x1C0000, 0x40000, 0xC0000), (0x200000, 0x200000, 0x200000)],
            slots.Select(slot => (slot.Start, slot.Size, slot.Offset)));
    }
}
