using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// Instructions whose mask says which elements of memory they touch: only those may fault.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const int MaximalVector = 32;

    // Of Insn.Extra: element size, index size, bytes of the destination.
    static Handler SelectElements(in Instruction x, Insn* i)
    {
        switch (x.Mnemonic)
        {
            case Mnemonic.Maskmovq: return &MaskedBytesMmx;
            case Mnemonic.Maskmovdqu: return &MaskedBytes<SseFamily>;
            case Mnemonic.Vmaskmovdqu: return &MaskedBytes<AvxFamily>;
            case Mnemonic.Vmaskmovps or Mnemonic.Vpmaskmovd: return SelectMasked(x, i, 4);
            case Mnemonic.Vmaskmovpd or Mnemonic.Vpmaskmovq: return SelectMasked(x, i, 8);
            case Mnemonic.Vpgatherdd or Mnemonic.Vgatherdps: return SelectGather(x, i, 4, 4);
            case Mnemonic.Vpgatherdq or Mnemonic.Vgatherdpd: return SelectGather(x, i, 8, 4);
            case Mnemonic.Vpgatherqd or Mnemonic.Vgatherqps: return SelectGather(x, i, 4, 8);
            case Mnemonic.Vpgatherqq or Mnemonic.Vgatherqpd: return SelectGather(x, i, 8, 8);
            case Mnemonic.Emms: return &Emms;
            case Mnemonic.Wait: return &Wait;
            default: return null;
        }
    }

    static Handler SelectMasked(in Instruction x, Insn* i, int element)
    {
        i->OperandSize = (byte)element;
        i->Extra = (ulong)VectorSize(x);
        return x.Op0Kind == OpKind.Memory ? &StoreMasked : &LoadMasked;
    }

    static Handler SelectGather(in Instruction x, Insn* i, int element, int index)
    {
        int indexBytes = x.MemoryIndex.GetSize(),
            count = Math.Min(indexBytes / index, x.Op0Register.GetSize() / element);
        i->OperandSize = (byte)element;
        i->Extra = (ulong)(index | count << 8);
        int to = x.Op0Register.GetNumber(), from = x.MemoryIndex.GetNumber(), mask = x.Op2Register.GetNumber();
        return to == from || to == mask || from == mask ? &Undefined : &Gather;
    }

    static ulong Truncate(Insn* i, ulong offset) => i->AddressSize == 8 ? offset : i->AddressSize == 4 ? (uint)offset
        : (ushort)offset;

    static void MaskedBytes<TFamily>(Cpu cpu, Insn* i) where TFamily : struct, IVectorFamily
    {
        TFamily.Check(cpu);
        StoreMaskedBytes(cpu, i, (byte*)Low(cpu.State, i->Reg1), (byte*)Low(cpu.State, i->Reg2), 16);
    }

    static void MaskedBytesMmx(Cpu cpu, Insn* i)
    {
        cpu.CheckMmx();
        cpu.EnterMmx();
        byte* registers = cpu.State->Xsave.Bytes + XsaveArea.St0;
        StoreMaskedBytes(cpu, i, registers + i->Reg1 * 16, registers + i->Reg2 * 16, 8);
    }

    static void StoreMaskedBytes(Cpu cpu, Insn* i, byte* data, byte* mask, int count)
    {
        ulong start = cpu.Rdi;
        for (int n = 0; n < count; n++)
            if ((sbyte)mask[n] < 0)
                cpu.PrepareWrite(cpu.Linear(i->Segment, Truncate(i, start + (ulong)n), 1, write: true), 1, i->Segment);
        for (int n = 0; n < count; n++)
            if ((sbyte)mask[n] < 0) cpu.Write(i->Segment, Truncate(i, start + (ulong)n), data[n]);
    }

    static void CopyOut(CpuState* state, int number, byte* to)
    {
        *(System.Runtime.Intrinsics.Vector128<byte>*)to = *Low(state, number);
        *(System.Runtime.Intrinsics.Vector128<byte>*)(to + 16) = *High(state, number);
    }

    static bool IsActive(byte* mask, int number, int size) => (sbyte)mask[(number + 1) * size - 1] < 0;

    static void LoadMasked(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx();
        int size = i->OperandSize, count = (int)i->Extra / size;
        byte* mask = stackalloc byte[MaximalVector], result = stackalloc byte[MaximalVector];
        CopyOut(cpu.State, i->Reg1, mask);
        new Span<byte>(result, MaximalVector).Clear();
        ulong start = cpu.EffectiveOffset(i);
        for (int n = 0; n < count; n++)
            if (IsActive(mask, n, size)) LoadElement(cpu, i, start + (ulong)(n * size), result + n * size);
        CopyIn(cpu.State, i->Reg0, result);
    }

    static void CopyIn(CpuState* state, int number, byte* from)
    {
        *Low(state, number) = *(System.Runtime.Intrinsics.Vector128<byte>*)from;
        *High(state, number) = *(System.Runtime.Intrinsics.Vector128<byte>*)(from + 16);
        *Highest(state, number) = default;
    }

    static void LoadElement(Cpu cpu, Insn* i, ulong offset, byte* to)
    {
        offset = Truncate(i, offset);
        if (i->OperandSize == 4) *(uint*)to = cpu.Read<uint>(i->Segment, offset);
        else *(ulong*)to = cpu.Read<ulong>(i->Segment, offset);
    }

    static void StoreMasked(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx();
        int size = i->OperandSize, count = (int)i->Extra / size;
        byte* mask = stackalloc byte[MaximalVector], data = stackalloc byte[MaximalVector];
        CopyOut(cpu.State, i->Reg1, mask);
        CopyOut(cpu.State, i->Reg2, data);
        ulong start = cpu.EffectiveOffset(i);
        for (int n = 0; n < count; n++)
            if (IsActive(mask, n, size))
                cpu.PrepareWrite(cpu.Linear(i->Segment, Truncate(i, start + (ulong)(n * size)), size, write: true),
                    size, i->Segment);
        for (int n = 0; n < count; n++)
        {
            if (!IsActive(mask, n, size)) continue;
            ulong offset = Truncate(i, start + (ulong)(n * size));
            if (size == 4) cpu.Write(i->Segment, offset, *(uint*)(data + n * 4));
            else cpu.Write(i->Segment, offset, *(ulong*)(data + n * 8));
        }
    }

    /// <summary>Elements that were loaded before a fault stay, and their mask is clear. Intel SDM vol. 2,
    /// VPGATHERDD.</summary>
    static void Gather(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx();
        CpuState* state = cpu.State;
        int size = i->OperandSize, indexSize = (byte)i->Extra, count = (int)(i->Extra >> 8);
        byte* mask = stackalloc byte[MaximalVector], result = stackalloc byte[MaximalVector],
            index = stackalloc byte[MaximalVector];
        CopyOut(state, i->Reg2, mask);
        CopyOut(state, i->Reg0, result);
        CopyOut(state, i->Index, index);
        ulong start = state->Gpr[i->Base] + (ulong)i->Displacement;
        for (int n = 0; n < count; n++)
        {
            if (!IsActive(mask, n, size))
            {
                new Span<byte>(mask + n * size, size).Clear();
                continue;
            }
            long at = indexSize == 4 ? *(int*)(index + n * 4) : *(long*)(index + n * 8);
            // what was passed over is clear too, as on processors
            CopyIn(state, i->Reg2, mask);
            LoadElement(cpu, i, start + ((ulong)at << i->Shift), result + n * size);
            new Span<byte>(mask + n * size, size).Clear();
            CopyIn(state, i->Reg0, result);
        }
        new Span<byte>(result + count * size, MaximalVector - count * size).Clear();
        new Span<byte>(mask, MaximalVector).Clear();
        CopyIn(state, i->Reg0, result);
        CopyIn(state, i->Reg2, mask);
    }
}
