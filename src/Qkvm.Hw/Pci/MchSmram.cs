using Qkvm.Core.Memory;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>What the memory controller hub keeps for system management mode beyond the screen's window: the top of low
/// RAM (TSEG), the window high up, and the first SMBASE. Spec: Intel 3 Series, order 316966, section 5.1.25 "ESMRAMC";
/// 50h and 9Ch are QEMU's own registers, as OVMF uses them.</summary>
sealed class MchSmram
{
    // Configuration registers
    const int TsegMegabytes = 0x50, SmBase = 0x9C, Extended = 0x9E;

    // ESMRAMC
    const byte HighEnable = 0x80, Error = 0x40, CacheBits = 0x38, TsegSize = 0x06, TsegEnable = 0x01;
    const int TsegSizeShift = 1;

    // 50h: a write of ones asks for the size behind TSEG_SZ 3
    const ushort Query = 0xFFFF;

    // 9Ch: a write of ones asks whether there is RAM; 2 hides it from all but system management mode, for good
    const byte SmBaseQuery = 0xFF, SmBaseInRam = 1, SmBaseLocked = 2;

    const ulong LegacyWindow = 0xA0000, LegacySize = 0x20000, HighWindow = 0xFEDA_0000;
    const ulong FirstSmBase = 0x30000, FirstSmBaseSize = 0x20000, Megabyte = 1 << 20;

    readonly PciConfig _config;
    readonly MchSmramOptions _options;
    readonly MemoryRegion _high, _openHigh, _tseg, _tsegHole, _first, _firstHole;

    /// <param name="memory">The CPU's memory outside the mode.</param>
    /// <param name="smm">And in it.</param>
    /// <param name="ram">RAM from address 0 on.</param>
    public MchSmram(PciConfig config, AddressSpace memory, AddressSpace smm, MemoryRegion ram, MchSmramOptions options)
    {
        (_config, _options) = (config, options);
        if (options.TsegMegabytes > 0) config.Define16(TsegMegabytes, options.TsegMegabytes, Query);
        if (options.HasSmBase) config.Define(SmBase, 0, SmBaseQuery);
        _high = Window("smram-high", HighWindow, LegacyWindow, LegacySize, smm);
        _openHigh = Window("smram-open-high", HighWindow, LegacyWindow, LegacySize, memory);
        _tseg = Window("tseg-window", 0, 0, 0, smm);
        _tsegHole = Hole("tseg-blackhole", 0, 0);
        _first = Window("smbase-window", FirstSmBase, FirstSmBase, FirstSmBaseSize, smm);
        _firstHole = Hole("smbase-blackhole", FirstSmBase, FirstSmBaseSize);

        MemoryRegion Window(string name, ulong at, ulong offset, ulong size, AddressSpace space) =>
            Placed(MemoryRegion.Alias(name, ram, offset, size), at, space);

        MemoryRegion Hole(string name, ulong at, ulong size) =>
            Placed(MemoryRegion.Io(name, size, new FloatingBus(), AccessSizes.UpToQword), at, memory);

        static MemoryRegion Placed(MemoryRegion region, ulong at, AddressSpace space)
        {
            region.Enabled = false;
            space.Map(at, region, 1);
            return region;
        }
    }

    /// <summary>H_SMRAME: the screen's window is high up, and the screen where it always is.</summary>
    public bool IsHigh => (_config[Extended] & HighEnable) != 0;

    public static void Define(PciConfig config) =>
        config.Define(Extended, CacheBits, HighEnable | TsegSize | TsegEnable, Error);

    /// <summary>After the registers were reset, loaded or written.</summary>
    public void Settle(SmramControl control)
    {
        _config.SetWritable(Extended, control.IsLocked ? (byte)0 : (byte)(HighEnable | TsegSize | TsegEnable));
        if (_options.TsegMegabytes > 0 && _config.Get16(TsegMegabytes) == Query)
            _config.Set16(TsegMegabytes, _options.TsegMegabytes);
        _high.Enabled = control.IsEnabled && IsHigh;
        _openHigh.Enabled = control.IsOpen && IsHigh;
        PlaceTseg(control.IsEnabled && (_config[Extended] & TsegEnable) != 0);
        if (_options.HasSmBase) SettleSmBase();
    }

    void PlaceTseg(bool enabled)
    {
        int code = (_config[Extended] & TsegSize) >> TsegSizeShift;
        ulong size = Megabyte * code switch
        {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => _options.TsegMegabytes,                           // reserved on the chip
        };
        bool shows = enabled && size > 0 && size < _options.LowMemory;
        (_tseg.Enabled, _tsegHole.Enabled) = (shows, shows);
        if (!shows) return;
        ulong at = _options.LowMemory - size;
        _tseg.SetWindow(at, at, size);
        _tsegHole.SetWindow(at, 0, size);
    }

    void SettleSmBase()
    {
        byte value = _config[SmBase];
        if (value == SmBaseQuery) _config[SmBase] = value = SmBaseInRam;
        else if ((value & SmBaseLocked) != 0) _config[SmBase] = value = SmBaseLocked;
        _config.SetWritable(SmBase, value switch
        {
            SmBaseLocked => 0,
            SmBaseInRam => SmBaseLocked,
            _ => SmBaseQuery,
        });
        (_first.Enabled, _firstHole.Enabled) = (value == SmBaseLocked, value == SmBaseLocked);
    }

    sealed class FloatingBus : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => ulong.MaxValue;
        public void Write(ulong offset, int size, ulong value) { }
    }
}

/// <summary>Of the hub's memory for system management mode.</summary>
/// <param name="LowMemory">Where RAM below 4 GiB ends.</param>
/// <param name="TsegMegabytes">Of the largest TSEG; 0: there is no such.</param>
/// <param name="HasSmBase">The RAM at 30000h can be hidden.</param>
public sealed record MchSmramOptions(ulong LowMemory, ushort TsegMegabytes = 16, bool HasSmBase = true);
