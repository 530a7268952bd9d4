using System.Buffers.Binary;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>What firmware and chip agree on about SMIs: the chip offers, firmware requests, and asks whether that is
/// well. Spec: the files etc/smi/* of QEMU's firmware configuration, as OVMF's SmmControl2Dxe uses them.</summary>
/// <param name="offered">Bits that firmware may request.</param>
public sealed class SmiFeatures(ulong offered)
{
    /// <summary>A command at the SMI command port interrupts all processors, not the one that writes.</summary>
    public const ulong Broadcast = 1;

    readonly byte[] _requested = new byte[sizeof(ulong)], _accepted = new byte[1];
    ulong _agreed;

    /// <summary>Contents of supported-features, requested-features (which firmware writes) and features-ok.</summary>
    public byte[] Offered { get; } = BitConverter.GetBytes(offered);
    public Memory<byte> Requested => _requested;
    public ReadOnlyMemory<byte> Accepted => _accepted;

    /// <summary>Firmware may still request.</summary>
    public bool IsOpen => _accepted[0] == 0;

    public bool IsBroadcast => (_agreed & Broadcast) != 0;

    /// <summary>Firmware looks whether it gets what it has requested; if so, that holds until the next reset.</summary>
    public void Agree()
    {
        ulong requested = BinaryPrimitives.ReadUInt64LittleEndian(_requested);
        if (!IsOpen || (requested & ~offered) != 0) return;
        (_agreed, _accepted[0]) = (requested, 1);
    }

    public void Reset()
    {
        Array.Clear(_requested);
        (_agreed, _accepted[0]) = (0, 0);
    }

    public void Exchange(StateStream state)
    {
        state.Block("requested", _requested);
        state.Block("accepted", _accepted);
        state.Field("agreed", ref _agreed);
        if ((_agreed & ~offered) != 0) throw state.Refuse("agreed", $"{_agreed:x} is more than is offered");
    }
}
