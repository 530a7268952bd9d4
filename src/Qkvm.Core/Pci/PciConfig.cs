using System.Buffers.Binary;
using Qkvm.Core.State;

namespace Qkvm.Core.Pci;

/// <summary>What a device is: the read-only head of its configuration space.</summary>
/// <param name="ClassCode">Class, subclass and programming interface: 0x020000 for an Ethernet card.</param>
public sealed record PciIdentity(ushort VendorId, ushort DeviceId, uint ClassCode, byte Revision = 0,
    ushort SubsystemVendorId = 0x1AF4, ushort SubsystemId = 0x1100, bool HasInterruptPin = true);

/// <summary>Configuration space with write masks: 256 bytes, or 4096 of a PCI Express function. PCI Local Bus 3.0,
/// chapter 6; PCI Express Base 3.0, chapter 7.</summary>
public sealed class PciConfig
{
    public const int ConventionalSize = 256, ExpressSize = 4096;

    // Offsets, section 6.1
    public const int VendorId = 0x00, DeviceId = 0x02, Command = 0x04, Status = 0x06, RevisionId = 0x08,
        ClassCode = 0x09, CacheLineSize = 0x0C, LatencyTimer = 0x0D, HeaderType = 0x0E, Bar0 = 0x10,
        SubsystemVendorId = 0x2C, SubsystemId = 0x2E, RomAddress = 0x30, CapabilityPointer = 0x34, InterruptLine = 0x3C,
        InterruptPin = 0x3D, BridgeRomAddress = 0x38;

    /// <summary>Where the header ends.</summary>
    public const int CapabilityStart = 0x40;

    /// <summary>Header type, of a function with more beside it.</summary>
    public const byte Multifunction = 0x80;

    // Command and Status bits, sections 6.2.2 and 6.2.3
    public const ushort IoSpace = 1, MemorySpace = 2, BusMaster = 4, ParityErrorResponse = 0x40, SerrEnable = 0x100,
        InterruptDisable = 0x400;
    public const ushort StatusInterrupt = 8, StatusCapabilities = 0x10;

    readonly byte[] _bytes, _writable, _initial;
    readonly byte[] _clearable;                                    // bits that writing one clears
    int _nextCapability = CapabilityStart, _lastExtended, _nextExtended = ConventionalSize;

    public PciConfig(PciIdentity identity, bool isExpress = false)
    {
        int size = isExpress ? ExpressSize : ConventionalSize;
        (_bytes, _writable, _clearable, _initial) = (new byte[size], new byte[size], new byte[size], new byte[size]);
        Define16(VendorId, identity.VendorId);
        Define16(DeviceId, identity.DeviceId);
        Define(RevisionId, identity.Revision);
        Define(ClassCode, (byte)identity.ClassCode);
        Define16(ClassCode + 1, (ushort)(identity.ClassCode >> 8));
        Define16(SubsystemVendorId, identity.SubsystemVendorId);
        Define16(SubsystemId, identity.SubsystemId);
        Define16(Command, 0, IoSpace | MemorySpace | BusMaster | ParityErrorResponse | SerrEnable | InterruptDisable);
        Define(CacheLineSize, 0, 0xFF);
        Define(LatencyTimer, 0);                                   // hardwired, section 6.2.4: no bus is ever shared
        Define(InterruptLine, 0, 0xFF);
        Define(InterruptPin, identity.HasInterruptPin ? (byte)1 : (byte)0);
    }

    public int Size => _bytes.Length;

    public byte this[int offset] { get => _bytes[offset]; set => _bytes[offset] = value; }

    public ReadOnlySpan<byte> Bytes(int offset, int count) => _bytes.AsSpan(offset, count);
    public ushort Get16(int offset) => BinaryPrimitives.ReadUInt16LittleEndian(_bytes.AsSpan(offset));
    public uint Get32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan(offset));
    public void Set16(int offset, ushort value) =>
        BinaryPrimitives.WriteUInt16LittleEndian(_bytes.AsSpan(offset), value);
    public void Set32(int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(_bytes.AsSpan(offset), value);

    /// <summary>Sets a byte's reset value and which bits the guest may write, or clear by writing ones.</summary>
    public void Define(int offset, byte value, byte writable = 0, byte clearable = 0)
    {
        _bytes[offset] = _initial[offset] = value;
        _writable[offset] = writable;
        _clearable[offset] = clearable;
    }

    /// <summary>From now on the guest may write these bits of a byte: chips have registers that lock.</summary>
    public void SetWritable(int offset, byte writable) => _writable[offset] = writable;

    public void Define16(int offset, ushort value, ushort writable = 0, ushort clearable = 0)
    {
        Define(offset, (byte)value, (byte)writable, (byte)clearable);
        Define(offset + 1, (byte)(value >> 8), (byte)(writable >> 8), (byte)(clearable >> 8));
    }

    public void Define32(int offset, uint value, uint writable = 0)
    {
        Define16(offset, (ushort)value, (ushort)writable);
        Define16(offset + 2, (ushort)(value >> 16), (ushort)(writable >> 16));
    }

    /// <summary>Puts a capability at the head of the list (section 6.7) and returns its offset; the caller defines
    /// its body.</summary>
    public int AddCapability(byte id, int length, int at = 0)
    {
        int offset = at != 0 ? at : _nextCapability;
        _nextCapability = Math.Max(_nextCapability, (offset + length + 3) & ~3);
        Define(offset, id);
        Define(offset + 1, _initial[CapabilityPointer]);
        Define(CapabilityPointer, (byte)offset);
        Define(Status, (byte)(_initial[Status] | StatusCapabilities));
        return offset;
    }

    /// <summary>Appends an extended capability and returns its offset. PCI Express Base 3.0, section 7.9.3.</summary>
    public int AddExtendedCapability(ushort id, byte version, int length)
    {
        int offset = _nextExtended;
        _nextExtended = (offset + length + 3) & ~3;
        Define32(offset, id | (uint)version << 16);
        if (_lastExtended != 0)
            Define16(_lastExtended + 2, (ushort)(_initial[_lastExtended + 2] & 15 | offset << 4));
        _lastExtended = offset;
        return offset;
    }

    internal void GuestWrite(int offset, byte value)
    {
        byte kept = (byte)(_bytes[offset] & ~_writable[offset]);
        _bytes[offset] = (byte)((kept | value & _writable[offset]) & ~(value & _clearable[offset]));
    }

    internal void Reset() => _initial.CopyTo(_bytes, 0);

    internal void Exchange(StateStream state)
    {
        // The read-only bytes are the model's: a forged image must not change what the device is.
        byte[] loaded = (byte[])_bytes.Clone();
        state.Block("config", loaded);
        if (!state.IsLoading) return;
        for (int i = 0; i < Size; i++)
        {
            byte mutable = (byte)(_writable[i] | _clearable[i] | (i is Status ? StatusInterrupt : 0));
            _bytes[i] = i >= CapabilityStart ? loaded[i] : (byte)(_bytes[i] & ~mutable | loaded[i] & mutable);
        }
    }
}
