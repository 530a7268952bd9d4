using Qkvm.Core.Accel;

namespace Qkvm.Control.Gdb;

/// <summary>A selector that a debugger writes: what it stands for comes along where that needs no descriptor.</summary>
static class SegmentLoad
{
    const ulong Virtual8086 = 1 << 17;

    /// <summary>False: in protected mode a descriptor would have to be loaded, which is the guest's to do.</summary>
    public static bool TrySelect(CpuRegisters registers, int number, uint selector)
    {
        ref SegmentRegister segment = ref registers.Segments[number];
        if (selector == segment.Selector) return true;
        if (selector > ushort.MaxValue || registers.IsProtected && (registers.Rflags & Virtual8086) == 0) return false;
        (segment.Selector, segment.Base) = ((ushort)selector, selector << 4);
        return true;
    }
}
