using Iced.Intel;

namespace Qkvm.Accel.Tcg;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>Instructions about privilege, modes, segments, interrupts and ports: which handler runs each.</summary>
/// <remarks>The operand size of an <see cref="Insn"/> is set here from the form, for all of them.</remarks>
static unsafe partial class SystemOps
{
    /// <summary>False: none of these.</summary>
    public static bool TrySelect(in Instruction instruction, Insn* i) =>
        SelectSegments(instruction.Code, i) || SelectTransfers(instruction.Code, i) || SelectTables(instruction.Code, i)
        || SelectControl(instruction.Code, i) || SelectFlags(instruction.Code, i) || SelectPorts(instruction.Code, i)
        || SelectOthers(instruction.Code, i) || SelectTransactions(instruction.Code, i)
        || SelectSvm(instruction.Code, i);

    static bool Set(Insn* i, delegate*<Cpu, Insn*, void> run, int size)
    {
        i->Run = run;
        i->OperandSize = (byte)size;
        return true;
    }

    /// <summary>Nothing after it runs before the loop has looked at mode, mapping and interrupts.</summary>
    static bool End(Insn* i, delegate*<Cpu, Insn*, void> run, int size = 0)
    {
        i->Flags |= InsnFlags.EndsBlock | InsnFlags.System;
        return Set(i, run, size);
    }

    static void Undefined(Cpu cpu, Insn* i) => throw cpu.Ud();

    static void Nothing(Cpu cpu, Insn* i) { }

    /// <summary>A 16-bit operand in a register or in memory.</summary>
    static ushort LoadWord(Cpu cpu, Insn* i, byte register) =>
        i->HasMemory ? cpu.Load<ushort>(i) : (ushort)cpu.State->Gpr[register];

    /// <summary>Memory takes 16 bits whatever the operand size.</summary>
    static void StoreWord(Cpu cpu, Insn* i, ushort value)
    {
        if (i->HasMemory) cpu.Store(i, value);
        else SetGpr(cpu, i->Reg0, i->OperandSize, value);
    }

    static void SetGpr(Cpu cpu, byte register, int size, ulong value)
    {
        ref ulong gpr = ref cpu.State->Gpr[register];
        gpr = size switch { 2 => gpr & ~0xFFFFUL | (ushort)value, 4 => (uint)value, _ => value };
    }
}
