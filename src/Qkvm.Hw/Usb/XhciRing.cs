using System.Buffers.Binary;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using static Qkvm.Hw.Usb.XhciRegisters;

namespace Qkvm.Hw.Usb;

/// <summary>A transfer request block. xHCI 1.2, section 4.11.1.</summary>
/// <param name="Address">Where it was read; of events and links not used.</param>
public readonly record struct XhciTrb(ulong Parameter, uint Status, uint Control, ulong Address = 0)
{
    public const int Size = 16;

    public uint Type => Control >> 10 & 0x3F;
    public byte Slot => (byte)(Control >> 24);
    public byte Endpoint => (byte)(Control >> 16 & 0x1F);

    /// <summary>Bytes of data.</summary>
    public int Length => (int)(Status & 0x1FFFF);
    public bool Has(uint flag) => (Control & flag) != 0;
}

/// <summary>The consumer's side of a ring of the driver's. Section 4.9.2.</summary>
sealed class XhciRing
{
    const int MostLinks = 32;                                      // without a TRB between them

    ulong _dequeue;
    bool _cycle;

    public ulong Dequeue => _dequeue;
    public bool CycleState => _cycle;

    public void Start(ulong dequeue, bool cycle) => (_dequeue, _cycle) = (dequeue, cycle);

    /// <summary>Takes the next one, following links.</summary>
    /// <returns>False: there is none yet, or, where <paramref name="isBroken"/>, never will be.</returns>
    public bool TryTake(Dma dma, out XhciTrb trb, out bool isBroken)
    {
        Span<byte> raw = stackalloc byte[XhciTrb.Size];
        trb = default;
        for (int links = 0; links < MostLinks; links++)
        {
            isBroken = !dma.Read(_dequeue, raw);
            if (isBroken) return false;
            trb = new XhciTrb(BinaryPrimitives.ReadUInt64LittleEndian(raw),
                BinaryPrimitives.ReadUInt32LittleEndian(raw[8..]), BinaryPrimitives.ReadUInt32LittleEndian(raw[12..]),
                _dequeue);
            if (trb.Has(Cycle) != _cycle) return false;
            if (trb.Type != Link)
            {
                _dequeue += XhciTrb.Size;
                return true;
            }
            _dequeue = trb.Parameter & ~0xFul;
            _cycle ^= trb.Has(ToggleCycle);
        }
        isBroken = true;
        return false;
    }

    public void Exchange(StateStream state)
    {
        state.Field("dequeue", ref _dequeue);
        state.Field("cycle", ref _cycle);
    }
}
