using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using static Qkvm.Hw.Storage.AhciRegisters;

namespace Qkvm.Hw.Storage;

/// <summary>The SATA controller of the 82801IR (ICH9R), in AHCI mode. AHCI 1.3.1; "Intel I/O Controller Hub 9 Family
/// Datasheet", 316972, chapter 15.</summary>
/// <remarks>Deviations: as in QEMU, PxSERR never tells of a COMRESET, and a D2H Register FIS follows the last data of a
/// PIO transfer to the host; no hot plug, power management, port multipliers, enclosure management or command
/// completion coalescing; a FIS that is for nobody is an interface fatal error.</remarks>
public sealed class Ahci : PciDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("ich9-ahci", BusKind.Pci, [], Create)
    {
        Aliases = ["ahci"],
        Category = DeviceCategory.Storage,
    };

    const ushort Intel = 0x8086, DeviceId = 0x2922;
    const uint SataAhci = 0x010601;
    const int IndexBar = 4, MemoryBar = 5, IndexBarSize = 32, MemorySize = 4096;
    const int MsiAt = 0x80, AddressMap = 0x90, PortControl = 0x92, SataAt = 0xA8;
    const byte SataCapability = 0x12, AhciMode = 0x40;
    const ushort SataRevision = 0x0010;
    const uint IndexLocation = IndexAt / 4 << 4 | IndexBar + 4;    // AHCI, section 2.4.2: where the pair is
    const int IndexAt = 0x10, DataAt = 0x14;

    readonly uint[] _registers = new uint[FirstPort / 4];
    uint _index;                                                   // of the index/data pair

    /// <param name="nameOf">What the bus of a port is called: "ide.0".</param>
    /// <param name="firstPlace">Places of the machine before its own: two for each bus.</param>
    public Ahci(Func<int, string> nameOf, int firstPlace)
        : base(new PciIdentity(Intel, DeviceId, SataAhci, Revision: 2), Model.Name)
    {
        Channels = [.. Enumerable.Range(0, Ports)
            .Select(i => new AhciPort(this, i, nameOf(i), firstPlace + i * IdeChannel.Drives))];
        Config.Define(AddressMap, AhciMode);
        Config.Define16(PortControl, 0, (1 << Ports) - 1);         // which ports are on: drivers set it
        int sata = Config.AddCapability(SataCapability, 8, SataAt);
        Config.Define16(sata + 2, SataRevision);
        Config.Define32(sata + 4, IndexLocation);
        Msi = new Msi(this, vectors: 1, MsiAt, is64Bit: true);
        Bar(IndexBar, MemoryRegion.Io("ahci-idp", IndexBarSize, new IndexPair(this), AccessSizes.Dwords), BarKind.Io);
        Bar(MemoryBar, MemoryRegion.Io("ahci", MemorySize, this, AccessSizes.Dwords), BarKind.Memory32);
        ResetHost();
    }

    /// <summary>Its ports.</summary>
    public IReadOnlyList<AhciPort> Channels { get; }

    /// <summary>The buses of its ports.</summary>
    public IEnumerable<QBus> Buses => Channels.Select(port => new QBus(port.Id, BusKind.Ide, port));

    static Ahci Create(Properties properties, DeviceSite site)
    {
        QBus root = site.Bus;
        while (root.Owner?.Bus is { } above) root = above;
        int buses = root.All.Count(bus => bus.Kind.Is(BusKind.Ide)), unnamed = 0;
        while (site.Board.FindBus($"ide.{unnamed}") != null) unnamed++;
        var controller = new Ahci(port => site.Id is { } id ? $"{id}.{port}" : $"ide.{unnamed + port}",
            buses * IdeChannel.Drives);
        foreach (QBus bus in controller.Buses) site.AddBus(bus);
        return controller;
    }

    ref uint this[int offset] => ref _registers[offset / 4];

    protected override void ResetDevice()
    {
        _index = 0;
        ResetHost();
        foreach (AhciPort port in Channels) port.Reset(isPowerOn: true);
    }

    protected override void ExchangeDevice(StateStream state)
    {
        state.Field("ghc", ref this[GHC]);
        state.Field("is", ref this[IS]);
        state.Field("index", ref _index);
        this[GHC] = this[GHC] & IE | AE;
        _index &= MemorySize - 4;
        for (int i = 0; i < Ports; i++) Channels[i].Exchange(state.Group("port", i));
    }

    protected override void OnConfigWritten(int offset, int size) => Apply();

    public ulong Read(ulong offset, int size)
    {
        int at = (int)offset;
        return at < FirstPort ? this[at] : PortAt(at) is { } port ? port.Read((at - FirstPort) % PortSize) : 0;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        int at = (int)offset;
        if (at >= FirstPort) PortAt(at)?.Write((at - FirstPort) % PortSize, (uint)value);
        else if (Find(HostRegisters, at) is { } register)
        {
            uint before = this[at];
            this[at] = Written(register, before, (uint)value);
            if (at == GHC) ControlWritten(before, (uint)value);
            else if (at == IS)
                for (int i = 0; i < Ports; i++) PortChanged(i, isNew: false);
            Apply();
        }
    }

    /// <summary>A port's interrupt bits changed: IS holds it until the guest clears that, too (section 10.7).</summary>
    /// <param name="isNew">There is something that the guest has not been told.</param>
    internal void PortChanged(int port, bool isNew)
    {
        if (Channels[port].WantsAttention)
        {
            isNew |= (this[IS] >> port & 1) == 0;
            this[IS] |= 1u << port;
            if (isNew) Tell();
        }
        Apply();
    }

    AhciPort? PortAt(int offset)
    {
        int port = (offset - FirstPort) / PortSize;
        return port < Ports ? Channels[port] : null;
    }

    void ControlWritten(uint before, uint value)
    {
        if ((value & HR) != 0)
        {
            ResetHost();
            foreach (AhciPort port in Channels) port.Reset(isPowerOn: false);
        }
        else if ((this[GHC] & ~before & IE) != 0 && this[IS] != 0) Tell();
    }

    void ResetHost()
    {
        foreach (Register register in HostRegisters) this[register.Offset] = register.Reset;
    }

    void Tell()
    {
        if ((this[GHC] & IE) != 0) Msi!.Notify(0);
    }

    void Apply() => IntX.Set((this[GHC] & IE) != 0 && this[IS] != 0);

    /// <summary>The way to the registers that works before memory is mapped: ICH9, section 15.2 (AIDPBA).</summary>
    sealed class IndexPair(Ahci controller) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => (int)offset switch
        {
            IndexAt => controller._index,
            DataAt => controller.Read(controller._index, 4),
            _ => 0,
        };

        public void Write(ulong offset, int size, ulong value)
        {
            if (offset == IndexAt) controller._index = (uint)value & MemorySize - 4;
            else if (offset == DataAt) controller.Write(controller._index, 4, value);
        }
    }
}
