using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;
using Qkvm.Hw.Intc;

namespace Qkvm.Hw.Iommu;

/// <summary>What an <see cref="IntelIommu"/> can do.</summary>
/// <param name="AddressBits">Of devices' addresses: 39 or 48.</param>
public sealed record IntelIommuOptions(bool RemapsInterrupts = true, bool HasWideDestinations = true,
    int AddressBits = 39, bool Translates = true, bool PassesThrough = true, bool Snoops = false,
    bool HasDeviceIotlb = false, bool IsCachingMode = false, bool Drains = true);

/// <summary>intel-iommu: DMA and interrupt remapping hardware. Spec: Intel Virtualization Technology for Directed I/O,
/// order D51397, revision 3.x; chapter 10 has the registers, whose names are used here.</summary>
/// <remarks>This part keeps the registers and the commands; IntelIommu.Queue.cs has the invalidation queue,
/// IntelIommu.Faults.cs the fault log and both events, IntelIommu.Interrupts.cs interrupt remapping.
/// Deviations: each invalidation empties all caches; interrupt entries are cached nowhere; drains wait for nothing, as
/// no driver takes a page back before its device is done with it; one fault is on record at a time, as in QEMU; no
/// scalable mode, page requests, posted interrupts or protected memory regions.</remarks>
public sealed partial class IntelIommu : IDevice, IRegisterBank, IPciIommu, IInterruptRemapper
{
    public const ulong DefaultAddress = 0xFED9_0000;
    public const int Size = 0x230;

    // Registers, table of section 10.4
    const int VER = 0x00, CAP = 0x08, ECAP = 0x10, GCMD = 0x18, GSTS = 0x1C, RTADDR = 0x20, CCMD = 0x28, FSTS = 0x34,
        FECTL = 0x38, FEDATA = 0x3C, FEADDR = 0x40, FEUADDR = 0x44, IQH = 0x80, IQT = 0x88, IQA = 0x90, ICS = 0x9C,
        IECTL = 0xA0, IEDATA = 0xA4, IEADDR = 0xA8, IEUADDR = 0xAC, IRTA = 0xB8, IVA = 0xF0, IOTLB = 0xF8, FRCD = 0x220;

    /// <summary>Dwords that keep what is written to them.</summary>
    static readonly (int Offset, uint Writable)[] s_plain =
    [
        (RTADDR, 0xFFFF_F000), (RTADDR + 4, uint.MaxValue), (CCMD, uint.MaxValue),
        (CCMD + 4, 0x6000_0003), (FEDATA, 0xFFFF), (FEADDR, 0xFFFF_FFFC), (FEUADDR, uint.MaxValue), (IQT, 0x7_FFF0),
        (IQA, 0xFFFF_F007), (IQA + 4, uint.MaxValue), (IEDATA, 0xFFFF), (IEADDR, 0xFFFF_FFFC), (IEUADDR, uint.MaxValue),
        (IRTA, 0xFFFF_F80F), (IRTA + 4, uint.MaxValue), (IOTLB + 4, 0x3003_FFFF),
    ];

    // GCMD and GSTS
    const uint TE = 1u << 31, SRTP = 1 << 30, QIE = 1 << 26, IRE = 1 << 25, SIRTP = 1 << 24, CFI = 1 << 23;
    const uint Go = 1u << 31;                                      // ICC of CCMD, IVT of IOTLB: in the high half
    const uint Version = 0x10;

    readonly IntelIommuOptions _options;
    readonly VtdTables _tables;
    readonly Dma _memory;
    readonly ApicBus? _bus;
    readonly MachineLock _lock;
    readonly Action<Action> _post;
    readonly uint[] _registers = new uint[Size / 4];
    ulong _root, _interruptTable;                                  // taken over by SRTP and SIRTP
    volatile bool _isTranslating;                                  // derived of GSTS, as are the next
    volatile bool _isRemapping, _takesCompatibility;
    volatile int _generation;                                      // not migrated: caches of an older one are void

    /// <param name="bus">Where interrupts go; null: those of devices are the kernel's.</param>
    /// <param name="post">From any thread: runs later, under the lock.</param>
    public IntelIommu(AddressSpace memory, ApicBus? bus, MachineLock machineLock, Action<Action> post,
        IntelIommuOptions options)
    {
        (_options, _bus, _lock, _post, _memory) = (options, bus, machineLock, post, new Dma(memory));
        _takeFaults = TakeFaults;
        _tables = new VtdTables(memory, options.AddressBits, options.Snoops, options.PassesThrough,
            options.HasDeviceIotlb);
        Reset();
    }

    public string Name => Model.Name;
    public IntelIommuOptions Options => _options;

    /// <summary>CAP: 64 Ki domains, page selective invalidation, superpages, one fault record at 220h.</summary>
    ulong Capabilities
    {
        get
        {
            const ulong domains = 6, caching = 1 << 7, width39 = 2 << 8, width48 = 4 << 8, superPages = 3UL << 34,
                pageSelective = 1UL << 39, mostMask = 18UL << 48, drains = 3UL << 54;
            bool isWide = _options.AddressBits >= 48;
            return domains | superPages | pageSelective | mostMask | (ulong)(_options.AddressBits - 1) << 16
                | (ulong)(FRCD / 16) << 24 | (_options.IsCachingMode ? caching : 0) | (_options.Drains ? drains : 0)
                | (!_options.Translates ? 0 : isWide ? width39 | width48 : width39);
        }
    }

    /// <summary>ECAP: queued invalidation; IVA and IOTLB at F0h.</summary>
    ulong ExtendedCapabilities
    {
        get
        {
            const ulong queued = 1 << 1, deviceIotlb = 1 << 2, interrupts = 1 << 3, wide = 1 << 4, passThrough = 1 << 6,
                snoops = 1 << 7, mostHandleMask = 15 << 20;
            return queued | (ulong)(IVA / 16) << 8 | (_options.HasDeviceIotlb ? deviceIotlb : 0)
                | (_options.RemapsInterrupts ? interrupts | mostHandleMask : 0)
                | (_options.RemapsInterrupts && _options.HasWideDestinations ? wide : 0)
                | (_options.PassesThrough ? passThrough : 0) | (_options.Snoops ? snoops : 0);
        }
    }

    internal bool IsTranslating => _isTranslating;
    internal int Generation => _generation;

    internal VtdFault Walk(ushort source, ulong address, bool write, out VtdPage page, out bool isSilent) =>
        _tables.Walk(Volatile.Read(ref _root), source, address, write, out page, out isSilent);

    IDmaTranslation IPciIommu.TranslationOf(PciDevice device) => new VtdView(this, device, _bus);
    IMsiTarget? IPciIommu.MessagesOf(PciDevice device) => _bus == null ? null : new VtdView(this, device, _bus);

    public void Reset()
    {
        Array.Clear(_registers);
        (_root, _interruptTable) = (0, 0);
        this[VER] = Version;
        Set64(CAP, Capabilities);
        Set64(ECAP, ExtendedCapabilities);
        this[FECTL] = this[IECTL] = EventMask;
        Settle();
    }

    public ulong Read(ulong offset, int size) => _registers[(int)offset / 4];

    public void Write(ulong offset, int size, ulong value)
    {
        uint data = (uint)value;
        switch ((int)offset)
        {
            case GCMD: Command(data); return;
            case FSTS: ClearFaultStatus(data); return;
            case FRCD + 12: ClearFault(data); return;
            case FECTL: WriteEventControl(FECTL, data); return;
            case IECTL: WriteEventControl(IECTL, data); return;
            case ICS: ClearCompletion(data); return;
        }
        foreach ((int plain, uint writable) in s_plain)
            if (plain == (int)offset) this[plain] = data & writable;
        switch ((int)offset)
        {
            case IQT: RunQueue(); break;
            // As fine as asked for, at once: CAIG and IAIG say what CIRG and IIRG did.
            case CCMD + 4 when (data & Go) != 0:
                this[CCMD + 4] |= (data >> 29 & 3) << 27;
                Invalidate();
                break;
            case IOTLB + 4 when (data & Go) != 0:
                this[IOTLB + 4] |= (data >> 28 & 3) << 25;
                Invalidate();
                break;
        }
    }

    public void Exchange(StateStream state)
    {
        for (int i = 0; i < _registers.Length; i++) state.Group("register", i).Field("value", ref _registers[i]);
        state.Field("root", ref _root);
        state.Field("interrupt-table", ref _interruptTable);
        if (!state.IsLoading) return;
        if (Get64(CAP) != Capabilities || Get64(ECAP) != ExtendedCapabilities)
            throw new InvalidStateException($"{Name}: saved with other capabilities");
        if ((this[GSTS] & IRE) != 0 && !_options.RemapsInterrupts)
            throw new InvalidStateException($"{Name}: remaps interrupts, which it cannot");
        this[IQH] &= QueueOffset;
        this[IQT] &= QueueOffset;
        Settle();
    }

    /// <summary>GCMD, section 10.4.4: bits that stay, and bits that do something once.</summary>
    void Command(uint command)
    {
        uint lasting = TE | QIE | CFI | (_options.RemapsInterrupts ? IRE : 0), before = this[GSTS];
        if ((command & SRTP) != 0) Volatile.Write(ref _root, Get64(RTADDR));
        if ((command & SIRTP) != 0 && _options.RemapsInterrupts) Volatile.Write(ref _interruptTable, Get64(IRTA));
        uint done = before & (SRTP | SIRTP) | command & SRTP | (_options.RemapsInterrupts ? command & SIRTP : 0);
        this[GSTS] = command & lasting | done;
        Settle();
        if (((before ^ command) & QIE) == 0) return;
        this[IQH] = 0;
        RunQueue();
    }

    void Settle()
    {
        uint status = this[GSTS];
        _isRemapping = (status & IRE) != 0;
        _takesCompatibility = (status & CFI) != 0;
        _isTranslating = (status & TE) != 0;
        Invalidate();
    }

    void Invalidate() => Interlocked.Increment(ref _generation);

    ref uint this[int offset] => ref _registers[offset / 4];
    ulong Get64(int offset) => this[offset] | (ulong)this[offset + 4] << 32;
    void Set64(int offset, ulong value) => (this[offset], this[offset + 4]) = ((uint)value, (uint)(value >> 32));
}
