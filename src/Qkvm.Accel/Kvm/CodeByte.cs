using Qkvm.Core.Accel;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

/// <summary>The first byte of an instruction, where it lies.</summary>
readonly record struct CodeByte(GuestRam Ram, ulong Offset)
{
    public byte Value
    {
        get => (byte)Ram.Read(Offset, 1);
        set => Ram.Write(Offset, 1, value);
    }

    /// <summary>By a vCPU's translation of now; null where there is no memory that can be changed.</summary>
    public static CodeByte? Find(AddressSpace memory, IVCpu cpu, ulong linear) =>
        cpu.TryTranslate(linear, out ulong physical) && memory.View.TryFind(physical, out FlatRange range)
            && range.Ram is { } ram ? new CodeByte(ram, range.RamOffset + (physical - range.Start)) : null;
}
