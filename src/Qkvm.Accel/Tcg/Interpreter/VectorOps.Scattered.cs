using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// Gathers and scatters of AVX-512, element by element: what is done before a fault stays done, and its mask bit is
// clear.
// Intel SDM vol. 2, VPGATHERDD and VPSCATTERDD. Insn.Extra: element size, index size, count, mask; Reg0: data.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const int MaximalZmm = 64;

    static Handler SelectScattered(in Instruction x, Insn* i)
    {
        bool scatters = x.Op0Kind == OpKind.Memory;
        Register data = scatters ? x.Op1Register : x.Op0Register;
        int element = x.MemorySize.GetElementSize(), index = IsIndexedByQwords(x.Mnemonic) ? 8 : 4;
        int count = Math.Min(x.MemoryIndex.GetSize() / index, data.GetSize() / element);
        i->Extra = (ulong)(element | index << 8 | count << 16 | x.OpMask.GetNumber() << 24);
        i->Reg0 = (byte)data.GetNumber();
        i->OperandSize = (byte)element;
        if (!scatters && data.GetNumber() == x.MemoryIndex.GetNumber()) return &Undefined;
        return scatters ? &Scatter : &GatherMasked;
    }

    static bool IsIndexedByQwords(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Vpgatherqd or Mnemonic.Vpgatherqq or Mnemonic.Vgatherqps
        or Mnemonic.Vgatherqpd or Mnemonic.Vpscatterqd or Mnemonic.Vpscatterqq or Mnemonic.Vscatterqps
        or Mnemonic.Vscatterqpd;

    /// <summary>The offset of element n.</summary>
    static ulong ElementOffset(CpuState* state, Insn* i, byte* index, int n)
    {
        long at = (byte)(i->Extra >> 8) == 4 ? *(int*)(index + n * 4) : *(long*)(index + n * 8);
        return state->Gpr[i->Base] + (ulong)i->Displacement + ((ulong)at << i->Shift);
    }

    static void GatherMasked(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx512();
        CpuState* state = cpu.State;
        int size = i->OperandSize, count = (byte)(i->Extra >> 16);
        ulong* mask = Opmask(state, (int)(i->Extra >> 24));
        byte* result = stackalloc byte[MaximalZmm], index = stackalloc byte[MaximalZmm];
        CopyOut512(state, i->Reg0, result);
        CopyOut512(state, i->Index, index);
        cpu.UsesMasks();
        for (int n = 0; n < count; n++)
        {
            if ((*mask >> n & 1) == 0) continue;
            LoadElement(cpu, i, ElementOffset(state, i, index, n), result + n * size);
            *mask &= ~(1UL << n);
            CopyIn512(cpu, i->Reg0, result);
        }
        *mask = 0;
        new Span<byte>(result + count * size, MaximalZmm - count * size).Clear();
        CopyIn512(cpu, i->Reg0, result);
    }

    static void Scatter(Cpu cpu, Insn* i)
    {
        cpu.CheckAvx512();
        CpuState* state = cpu.State;
        int size = i->OperandSize, count = (byte)(i->Extra >> 16);
        ulong* mask = Opmask(state, (int)(i->Extra >> 24));
        byte* data = stackalloc byte[MaximalZmm], index = stackalloc byte[MaximalZmm];
        CopyOut512(state, i->Reg0, data);
        CopyOut512(state, i->Index, index);
        cpu.UsesMasks();
        for (int n = 0; n < count; n++)
        {
            if ((*mask >> n & 1) == 0) continue;
            ulong offset = Truncate(i, ElementOffset(state, i, index, n));
            if (size == 4) cpu.Write(i->Segment, offset, *(uint*)(data + n * 4));
            else cpu.Write(i->Segment, offset, *(ulong*)(data + n * 8));
            *mask &= ~(1UL << n);
        }
        *mask = 0;
    }
}
