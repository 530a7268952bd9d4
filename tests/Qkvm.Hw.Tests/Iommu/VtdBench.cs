using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Intc;
using Qkvm.Hw.Iommu;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Iommu;

/// <summary>An IOMMU before a PCI bus with one function at 00:03.0, three processors in x2APIC mode with the ids 0, 1
/// and 300, and 4 MiB of memory for its tables.</summary>
sealed class VtdBench : IDisposable
{
    public const int GCMD = 0x18, GSTS = 0x1C, RTADDR = 0x20, CCMD = 0x28, FSTS = 0x34, FECTL = 0x38, FEDATA = 0x3C,
        FEADDR = 0x40, FEUADDR = 0x44, IQH = 0x80, IQT = 0x88, IQA = 0x90, ICS = 0x9C, IECTL = 0xA0, IEDATA = 0xA4,
        IEADDR = 0xA8, IRTA = 0xB8, IOTLB = 0xF8, FRCD = 0x220;
    public const uint TE = 1u << 31, SRTP = 1 << 30, QIE = 1 << 26, IRE = 1 << 25, SIRTP = 1 << 24, CFI = 1 << 23;
    public const ushort Source = 3 << 3;

    // Where the tables are
    public const ulong Root = 0x1000, Context = 0x2000, Top = 0x3000, Queue = 0x8000, Interrupts = 0x9000;

    const uint Eoi = 0x80B, Svr = 0x80F;

    readonly FakeClock _clock = new();

    public VtdBench(IntelIommuOptions? options = null)
    {
        Bus = new ApicBus();
        IoApic = new IoApic(Bus);
        Apics = [.. new[] { 0, 1, 300 }.Select((id, i) =>
            new LocalApic(new FakeVCpu(i, _clock), id, i == 0, Bus, _clock, Memory.Lock))];
        foreach (LocalApic apic in Apics)
        {
            apic.WriteBaseMsr(apic.BaseMsr | 0x400);
            apic.WriteMsr(Svr, 0x1FF);
        }
        Pci = new PciBus("pcie.0", MemoryRegion.Container("pci", 1UL << 40), Memory.PortRoot, Memory.Space, Bus,
            static (_, pin) => pin, [static _ => { }, static _ => { }, static _ => { }, static _ => { }]);
        Iommu = new IntelIommu(Memory.Space, Bus, Memory.Lock, Posted.Add, options ?? new IntelIommuOptions());
        Bus.Remapper = Iommu;
        Memory.Root.Map(IntelIommu.DefaultAddress, MemoryRegion.Io("iommu", IntelIommu.Size, Iommu,
            new AccessSizes(4, 8, 4, 4)));
        Pci.JoinAll(Iommu);
        Device = new Card();
        Pci.Plug(Device, Source);
        Pci.WriteConfig(Source, PciConfig.Command, 2, PciConfig.BusMaster);
    }

    public TestMemory Memory { get; } = new();
    public ApicBus Bus { get; }
    public IoApic IoApic { get; }
    public LocalApic[] Apics { get; }
    public PciBus Pci { get; }
    public IntelIommu Iommu { get; }
    public PciDevice Device { get; }

    /// <summary>What wants to run under the lock.</summary>
    public List<Action> Posted { get; } = [];

    /// <summary>A register, of 32 bits.</summary>
    public uint this[int register]
    {
        get => (uint)Memory.Space.Read(IntelIommu.DefaultAddress + (ulong)register, 4);
        set => Memory.Space.Write(IntelIommu.DefaultAddress + (ulong)register, 4, value);
    }

    public ulong Long(int register) => Memory.Space.Read(IntelIommu.DefaultAddress + (ulong)register, 8);
    public void Long(int register, ulong value) =>
        Memory.Space.Write(IntelIommu.DefaultAddress + (ulong)register, 8, value);

    public void Put(ulong address, params ulong[] values)
    {
        for (int i = 0; i < values.Length; i++) Memory.Space.Write(address + (ulong)i * 8, 8, values[i]);
    }

    /// <summary>A command that keeps what was commanded before.</summary>
    public void Command(uint bits) => this[GCMD] = this[GSTS] & ~(SRTP | SIRTP) | bits;

    /// <summary>Translation on, with the device in a domain of four or three levels.</summary>
    public void Translate(int levels = 3, ulong contextLow = Top | 1)
    {
        Put(Root, Context | 1, 0);
        Put(Context + Source * 16, contextLow, (ulong)(1 << 8 | levels - 2));
        Long(RTADDR, Root);
        Command(SRTP);
        Command(TE);
    }

    /// <summary>A chain of tables from <see cref="Top"/> on, a page each, to an entry of the last level.</summary>
    public void Map(ulong address, ulong entry, int levels = 3, int lastLevel = 1)
    {
        ulong table = Top;
        for (int level = levels; level > lastLevel; level--, table += 0x1000)
            Put(table + Index(level) * 8, table + 0x1000 | 3);
        Put(table + Index(lastLevel) * 8, entry);

        ulong Index(int level) => address >> (12 + 9 * (level - 1)) & 511;
    }

    /// <summary>Interrupt remapping on, with a table of 16 entries and 32-bit destinations.</summary>
    public void Remap(bool wide = true)
    {
        Long(IRTA, Interrupts | (wide ? 0x800u : 0) | 3);
        Command(SIRTP);
        Command(IRE);
    }

    /// <summary>The vectors that wait at each local APIC; their interrupts end.</summary>
    public string Taken()
    {
        var taken = new List<string>();
        foreach (LocalApic apic in Apics)
        {
            if (!apic.HasInterrupt) continue;
            taken.Add($"{apic.Id}:{apic.Acknowledge():x2}");
            apic.WriteMsr(Eoi, 0);
        }
        return string.Join(" ", taken);
    }

    public void Dispose() => Memory.Dispose();

    sealed class Card() : PciDevice(new PciIdentity(0x1234, 0x5678, 0x020000), "card")
    {
        protected override void ResetDevice() { }
        protected override void ExchangeDevice(StateStream state) { }
    }
}
