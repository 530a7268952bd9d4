using System.Numerics;

namespace Qkvm.Core.Pci;

/// <summary>Message signalled interrupts. PCI Local Bus 3.0, section 6.8.1.</summary>
/// <remarks>All of its state lies in configuration space, which is reset and saved with it.</remarks>
public sealed class Msi
{
    public const int MostVectors = 32;

    const byte CapabilityId = 0x05;

    // Offsets; what follows the address moves by 4 where that has 64 bits. Section 6.8.1.2 ff.
    const int MessageControl = 2, AddressLow = 4, AddressHigh = 8;
    const ushort Enable = 1, MultipleEnable = 0x70, Is64 = 0x80, IsMaskable = 0x100;
    const int CapableShift = 1, EnableShift = 4;

    readonly PciDevice _device;
    readonly int _capability, _data, _mask;                        // _mask: 0 where vectors have no mask
    readonly bool _is64Bit;

    /// <param name="vectors">A power of two, 1 to 32.</param>
    /// <param name="at">Offset in configuration space; 0 for the next that is free.</param>
    /// <param name="isMaskable">Each vector has a mask and a pending bit.</param>
    public Msi(PciDevice device, int vectors, int at = 0, bool is64Bit = true, bool isMaskable = false)
    {
        if (!BitOperations.IsPow2(vectors) || vectors > MostVectors)
            throw new ArgumentException($"{device.Name}: MSI of {vectors} vectors");
        (_device, Vectors, _is64Bit) = (device, vectors, is64Bit);
        int data = is64Bit ? 12 : 8;
        PciConfig config = device.Config;
        _capability = config.AddCapability(CapabilityId, isMaskable ? data + 12 : data + 2, at);
        _data = _capability + data;
        int capable = BitOperations.Log2((uint)vectors);
        ushort choices = (ushort)((BitOperations.RoundUpToPowerOf2((uint)capable + 1) - 1) << EnableShift);
        config.Define16(_capability + MessageControl, (ushort)(capable << CapableShift | (is64Bit ? Is64 : 0)
            | (isMaskable ? IsMaskable : 0)), (ushort)(Enable | choices));
        config.Define32(_capability + AddressLow, 0, ~3u);
        if (is64Bit) config.Define32(_capability + AddressHigh, 0, uint.MaxValue);
        config.Define16(_data, 0, ushort.MaxValue);
        if (!isMaskable) return;
        _mask = _data + 4;
        config.Define32(_mask, 0, (uint)((1UL << vectors) - 1));
    }

    public int Vectors { get; }
    public bool IsEnabled => (Control & Enable) != 0;

    /// <summary>How many messages software lets the device have; the vectors share them.</summary>
    public int Allocated => Math.Min(1 << ((Control & MultipleEnable) >> EnableShift), Vectors);

    ushort Control => _device.Config.Get16(_capability + MessageControl);

    /// <summary>Sends a vector's message, or remembers it while masked. Nothing happens while the guest has not
    /// enabled it. Under the machine lock.</summary>
    public void Notify(int vector)
    {
        if (!IsEnabled) return;
        PciConfig config = _device.Config;
        int message = vector & (Allocated - 1);
        if (_mask != 0 && (config.Get32(_mask) >> message & 1) != 0)
        {
            config.Set32(Pending, config.Get32(Pending) | 1u << message);
            return;
        }
        ulong address = config.Get32(_capability + AddressLow) & ~3u;
        if (_is64Bit) address |= (ulong)config.Get32(_capability + AddressHigh) << 32;
        // the message's number replaces the low bits of the data
        _device.MsiTarget.Send(address, (uint)(config.Get16(_data) & ~(Allocated - 1) | message));
    }

    /// <summary>What was unmasked goes now.</summary>
    internal void ConfigWritten()
    {
        if (_mask == 0 || !IsEnabled) return;
        PciConfig config = _device.Config;
        uint now = config.Get32(Pending) & ~config.Get32(_mask);
        config.Set32(Pending, config.Get32(Pending) & ~now);
        for (; now != 0; now &= now - 1) Notify(BitOperations.TrailingZeroCount(now));
    }

    int Pending => _mask + 4;
}
