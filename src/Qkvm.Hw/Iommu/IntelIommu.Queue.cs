using System.Buffers.Binary;

namespace Qkvm.Hw.Iommu;

/// <remarks>Queued invalidation: sections 6.5.2 and, of the registers, 10.4.21 to 10.4.28.</remarks>
public sealed partial class IntelIommu
{
    const uint QueueOffset = 0x7_FFF0;                             // of IQH and IQT: descriptor << 4
    const int DescriptorSize = 16, FirstSize = 256;                // descriptors of 128 bits in a queue of QS 0
    const uint QueueSize = 7;                                      // QS of IQA

    // Types of descriptors, section 6.5.2
    const int ContextInvalidate = 1, IotlbInvalidate = 2, DeviceTlbInvalidate = 3,
        InterruptEntryInvalidate = 4, Wait = 5;
    const ulong TypeBits = 0xE0F;                                  // bits 11:9 are the type's upper part
    const ulong WaitInterrupt = 1 << 4, WaitStatus = 1 << 5, WaitReserved = 0xFFFF_F180, WaitReservedHigh = 3;

    /// <summary>Up to the tail, at most once through the queue; an error stops it until software clears that.</summary>
    void RunQueue()
    {
        if ((this[GSTS] & QIE) == 0 || (this[FSTS] & QueueError) != 0) return;
        ulong at = Get64(IQA) & ~0xFFFUL;
        uint end = (uint)(FirstSize * DescriptorSize) << (int)(this[IQA] & QueueSize), tail = this[IQT];
        Span<byte> descriptor = stackalloc byte[DescriptorSize];
        while (this[IQH] != tail)
        {
            if (tail >= end || !_memory.Read(at + this[IQH], descriptor)
                || !Execute(BinaryPrimitives.ReadUInt64LittleEndian(descriptor),
                    BinaryPrimitives.ReadUInt64LittleEndian(descriptor[8..])))
            {
                RaiseFault(QueueError);
                return;
            }
            uint next = this[IQH] + DescriptorSize;
            this[IQH] = next >= end ? 0 : next;
        }
    }

    /// <summary>False for what is no descriptor.</summary>
    bool Execute(ulong low, ulong high)
    {
        switch (low & TypeBits)
        {
            case ContextInvalidate or IotlbInvalidate: Invalidate(); return true;
            case InterruptEntryInvalidate: return true;
            case DeviceTlbInvalidate: return _options.HasDeviceIotlb;
            case Wait when (low & WaitReserved) == 0 && (high & WaitReservedHigh) == 0:
                if ((low & WaitStatus) != 0 && !_memory.Write(high, 4, low >> 32)) return false;
                if ((low & WaitInterrupt) != 0) Complete();
                return true;
            default: return false;
        }
    }
}
