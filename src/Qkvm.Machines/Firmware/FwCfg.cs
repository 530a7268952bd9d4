using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Acpi;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Machines.Firmware;

/// <summary>Classic keys of the firmware configuration device.</summary>
public static class FwCfgKey
{
    public const ushort Signature = 0x00, Id = 0x01, Uuid = 0x02, RamSize = 0x03, NoGraphic = 0x04, CpuCount = 0x05,
        MachineId = 0x06, KernelAddress = 0x07, KernelSize = 0x08, InitrdAddress = 0x0A, InitrdSize = 0x0B,
            BootDevice = 0x0C,
        Numa = 0x0D, BootMenu = 0x0E, MaxCpus = 0x0F, KernelEntry = 0x10, KernelData = 0x11, InitrdData = 0x12,
        CommandLineAddress = 0x13, CommandLineSize = 0x14, CommandLineData = 0x15, SetupAddress = 0x16,
            SetupSize = 0x17,
        SetupData = 0x18, FileDirectory = 0x19, FirstFile = 0x20, ArchLocal = 0x8000, Irq0Override = ArchLocal + 2;
}

/// <summary>The firmware configuration device: numbered items and named files that the firmware reads byte by byte or
/// by DMA.
/// Spec: QEMU's docs/specs/fw_cfg.</summary>
public sealed class FwCfg : IDevice, IRegisterBank
{
    const ulong SelectorPort = 0x510, DmaPort = 0x514, DmaSize = 8;
    const ulong Selector = 0, Data = 1;

    // Id: traditional interface, DMA interface
    const uint Features = 3;
    const int NameSize = 56, DirectoryEntry = 64, MaxFiles = 0x4000 - FwCfgKey.FirstFile;
    const ushort Writable = 0x4000;                                // a bit of the selector, without effect

    readonly Dictionary<ushort, ReadOnlyMemory<byte>> _items = [];
    readonly SortedDictionary<string, ReadOnlyMemory<byte>> _files = new(StringComparer.Ordinal);
    readonly Dictionary<string, ushort> _keys = [];
    readonly Dictionary<string, Action> _onSelect = [];
    readonly Dictionary<string, (Memory<byte> Contents, Func<bool> Takes)> _writable = [];
    readonly FwCfgDma _dma;
    Action? _onFirstLook;
    ushort _selected;
    uint _offset;

    /// <summary>Spec: QEMU's docs/specs/fw_cfg.txt, "ACPI Interface".</summary>
    public static Aml[] Describe() =>
    [
        Aml.Name("_HID", Aml.Text("QEMU0002")),
        Aml.Name("_STA", 0x0B),
        Aml.Name("_CRS", AmlResource.Template(
            AmlResource.Io((ushort)SelectorPort, (byte)(DmaPort + DmaSize - SelectorPort)))),
    ];

    public FwCfg(AddressSpace memory, AddressSpace ports)
    {
        _dma = new FwCfgDma(this, new Dma(memory));
        ports.Map(SelectorPort, MemoryRegion.Io("fwcfg", 2, this, AccessSizes.UpToWord));
        ports.Map(DmaPort, MemoryRegion.Io("fwcfg.dma", DmaSize, _dma, AccessSizes.UpToQword));
        Add(FwCfgKey.Signature, "QEMU"u8.ToArray());
        Add32(FwCfgKey.Id, Features);
        BuildDirectory();
    }

    public string Name => "fw_cfg";

    public IReadOnlyDictionary<string, ReadOnlyMemory<byte>> Files
    {
        get
        {
            LookAtFiles();
            return _files;
        }
    }

    public void Add(ushort key, ReadOnlyMemory<byte> value) => _items[key] = value;

    public void Add16(ushort key, ushort value) => Add(key, BitConverter.GetBytes(value));
    public void Add32(ushort key, uint value) => Add(key, BitConverter.GetBytes(value));
    public void Add64(ushort key, ulong value) => Add(key, BitConverter.GetBytes(value));

    /// <summary>With the terminating zero.</summary>
    public void AddText(ushort key, string value) => Add(key, Encoding.UTF8.GetBytes(value + "\0"));

    /// <summary>The item's bytes; empty for an unknown key.</summary>
    public ReadOnlyMemory<byte> Item(ushort key) => _items.TryGetValue(key, out var value) ? value : default;

    /// <summary>Adds or replaces a named file; keys follow the names' order.</summary>
    public void AddFile(string name, ReadOnlyMemory<byte> contents)
    {
        if (name.Length is 0 or >= NameSize || !Ascii.IsValid(name))
            throw new ConfigurationException($"-fw_cfg name={name}: a name has 1 to {NameSize - 1} ASCII characters");
        if (_files.Count >= MaxFiles && !_files.ContainsKey(name))
            throw new ConfigurationException($"-fw_cfg name={name}: at most {MaxFiles} files are possible");
        _files[name] = contents;
        BuildDirectory();
    }

    /// <summary>Adds a named file that the guest may write, by DMA.</summary>
    /// <param name="takes">Whether it may now.</param>
    public void AddWritableFile(string name, Memory<byte> contents, Func<bool> takes)
    {
        _writable[name] = (contents, takes);
        AddFile(name, contents);
    }

    /// <summary>Calls <paramref name="selected"/> whenever the guest is about to read the file, to bring it and others
    /// up to date.</summary>
    public void OnSelect(string name, Action selected) => _onSelect[name] = selected;

    /// <summary>Calls <paramref name="add"/> once, when somebody first looks at the directory or at a file, to add what
    /// costs time to make.</summary>
    public void OnFirstLook(Action add) => _onFirstLook += add;

    public void Reset()
    {
        Select(0);
        _dma.Reset();
    }

    public ulong Read(ulong offset, int size)
    {
        if (offset != Data) return 0;                              // the selector is write-only
        ReadOnlySpan<byte> item = Item(_selected).Span;
        return _offset < (uint)item.Length ? item[(int)_offset++] : 0u;
    }

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset == Selector && size == 2) Select((ushort)value);
    }

    public void Exchange(StateStream state)
    {
        state.Field("selected", ref _selected);
        state.Field("offset", ref _offset);
        _dma.Exchange(state.Group("dma"));
        if (state.IsLoading && IsOfFiles(_selected)) LookAtFiles();
    }

    internal void Select(ushort key)
    {
        _selected = (ushort)(key & ~Writable);
        _offset = 0;
        if (IsOfFiles(_selected)) LookAtFiles();
        foreach (var (name, selected) in _onSelect)
            if (_keys.TryGetValue(name, out ushort file) && file == _selected) selected();
    }

    /// <summary>The next bytes of the selected item; what lies beyond its end is missing from the result.</summary>
    internal ReadOnlySpan<byte> Take(uint length)
    {
        ReadOnlySpan<byte> item = Item(_selected).Span;
        if (_offset >= (uint)item.Length) return default;
        item = item.Slice((int)_offset, (int)Math.Min(length, (uint)item.Length - _offset));
        _offset += (uint)item.Length;
        return item;
    }

    static bool IsOfFiles(ushort key) => key is >= FwCfgKey.FileDirectory and < FwCfgKey.ArchLocal;

    /// <summary>Files' keys hold from here on: one more file would move them.</summary>
    void LookAtFiles()
    {
        Action? add = _onFirstLook;
        _onFirstLook = null;
        add?.Invoke();
    }

    /// <summary>Where the guest's bytes for the selected item go; empty if they cannot be written there.</summary>
    internal Span<byte> TakeWritable(uint length)
    {
        foreach (var (name, file) in _writable)
        {
            long room = file.Contents.Length - (long)_offset;
            if (_keys[name] != _selected || !file.Takes() || length > room) continue;
            Span<byte> part = file.Contents.Span.Slice((int)_offset, (int)length);
            _offset += length;
            return part;
        }
        return default;
    }

    void BuildDirectory()
    {
        byte[] directory = new byte[4 + _files.Count * DirectoryEntry];
        BinaryPrimitives.WriteUInt32BigEndian(directory, (uint)_files.Count);
        ushort key = FwCfgKey.FirstFile;
        Span<byte> entry = directory.AsSpan(4);
        foreach (var (name, contents) in _files)
        {
            BinaryPrimitives.WriteUInt32BigEndian(entry, (uint)contents.Length);
            BinaryPrimitives.WriteUInt16BigEndian(entry[4..], key);
            Encoding.ASCII.GetBytes(name, entry.Slice(8, NameSize));
            _keys[name] = key;
            _items[key++] = contents;
            entry = entry[DirectoryEntry..];
        }
        _items[FwCfgKey.FileDirectory] = directory;
    }
}
