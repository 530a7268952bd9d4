using Qkvm.Core.Memory;
using Qkvm.Core.Pci;

namespace Qkvm.Hw.Pci;

/// <summary>The enhanced configuration access mechanism: a window of memory in which every function has 4 KiB, at bus
/// &lt;&lt; 20 | device &lt;&lt; 15 | function &lt;&lt; 12. Spec: PCI Express Base 3.0, section 7.2.2.</summary>
/// <param name="root">The bus of the host bridge, number 0.</param>
public sealed class PciEcam(PciBus root) : IRegisterBank
{
    /// <summary>For 256 buses.</summary>
    public const ulong FullSize = 256 << BusShift;

    public const int BusShift = 20;

    const int FunctionShift = 12, RegisterMask = 0xFFF;

    public ulong Read(ulong offset, int size) =>
        root.Find((int)(offset >> BusShift))?.ReadConfig(Function(offset), Register(offset), size)
            ?? ulong.MaxValue >> (64 - size * 8);

    public void Write(ulong offset, int size, ulong value) =>
        root.Find((int)(offset >> BusShift))?.WriteConfig(Function(offset), Register(offset), size, (uint)value);

    static int Function(ulong offset) => (int)(offset >> FunctionShift) & 0xFF;
    static int Register(ulong offset) => (int)offset & RegisterMask;
}
