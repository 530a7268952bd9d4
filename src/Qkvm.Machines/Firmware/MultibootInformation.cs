using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Machines.Firmware;

/// <summary>The boot information with all that it points to, but for the modules themselves. The ROM fills the memory
/// sizes and the map in. Spec: Multiboot Specification 0.6.96, section 3.3.</summary>
/// <param name="address">Where it will lie.</param>
/// <param name="describeText">Tell that the screen is in text mode: of use to kernels that asked for another.</param>
sealed class MultibootInformation(uint address, string commandLine, (string Path, string Text)[] modules,
    (uint Start, uint End)[] placed,
    bool describeText)
{
    // Offsets and flags
    const int Flags = 0, BootDevice = 12, CommandLine = 16, ModuleCount = 20, Modules = 24, MemoryMap = 48,
        LoaderName = 64, FrameBuffer = 88, Pitch = 96, Width = 100, Height = 104, BitsPerPixel = 108,
        FrameBufferType = 109, End = 120;
    const uint HasMemory = 1, HasBootDevice = 2, HasCommandLine = 4, HasModules = 8, HasMemoryMap = 0x40,
        HasLoaderName = 0x200, HasFrameBuffer = 0x1000;

    /// <summary>Behind the structure: the ROM's room for the DMA descriptor with which it loads the kernel.</summary>
    const int DmaDescriptorSize = 16;

    const int ModuleEntry = 16, MapRoom = 32 * 24;
    const uint TextMemory = 0xB8000;
    const byte EgaText = 2;

    readonly List<byte> _block = [];

    public byte[] Build()
    {
        _block.Clear();
        Reserve(End + DmaDescriptorSize);
        int map = Reserve(MapRoom), list = Reserve(modules.Length * ModuleEntry);
        uint line = AddText(commandLine), name = AddText("qkvm");
        uint[] texts = [.. modules.Select(m => AddText(m.Text))];
        byte[] bytes = [.. _block];
        Put(bytes, Flags, HasMemory | HasBootDevice | HasCommandLine | HasMemoryMap | HasLoaderName
            | (modules.Length > 0 ? HasModules : 0) | (describeText ? HasFrameBuffer : 0));
        Put(bytes, BootDevice, 0x8000_FFFF);                       // first disk, no partition
        Put(bytes, CommandLine, line);
        Put(bytes, ModuleCount, (uint)modules.Length);
        Put(bytes, Modules, address + (uint)list);
        Put(bytes, MemoryMap, address + (uint)map);
        Put(bytes, LoaderName, name);
        for (int i = 0; i < modules.Length; i++)
        {
            Put(bytes, list + i * ModuleEntry, placed[i].Start);
            Put(bytes, list + i * ModuleEntry + 4, placed[i].End);
            Put(bytes, list + i * ModuleEntry + 8, texts[i]);
        }
        if (!describeText) return bytes;
        Put(bytes, FrameBuffer, TextMemory);
        // bytes in a line; width and height are in characters
        Put(bytes, Pitch, 160);
        Put(bytes, Width, 80);
        Put(bytes, Height, 25);
        (bytes[BitsPerPixel], bytes[FrameBufferType]) = (16, EgaText);
        return bytes;
    }

    int Reserve(int size)
    {
        int at = _block.Count;
        _block.AddRange(new byte[size]);
        return at;
    }

    uint AddText(string text)
    {
        uint at = address + (uint)_block.Count;
        _block.AddRange(Encoding.UTF8.GetBytes(text + "\0"));
        return at;
    }

    static void Put(byte[] bytes, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);
}
