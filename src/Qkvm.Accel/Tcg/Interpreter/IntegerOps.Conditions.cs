using System.Runtime.CompilerServices;

namespace Qkvm.Accel.Tcg;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>One of the sixteen conditions, for handlers that are compiled for each. SDM vol. 1, appendix B.</summary>
interface ICondition
{
    static abstract bool Holds(Cpu cpu);
}

static unsafe partial class IntegerOps
{
    readonly struct IfO
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        cpu.Overflow; }
    readonly struct IfNo
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !cpu.Overflow; }
    readonly struct IfB
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        cpu.Carry; }
    readonly struct IfAe
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !cpu.Carry; }
    readonly struct IfE
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) => cpu.Zero;
        }
    readonly struct IfNe
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !cpu.Zero; }
    readonly struct IfBe
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        cpu.Carry | cpu.Zero; }
    readonly struct IfA
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !(cpu.Carry | cpu.Zero); }
    readonly struct IfS
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) => cpu.Sign;
        }
    readonly struct IfNs
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !cpu.Sign; }
    readonly struct IfP
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        cpu.Parity; }
    readonly struct IfNp
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !cpu.Parity; }
    readonly struct IfL
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) => cpu.Less;
        }
    readonly struct IfGe
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !cpu.Less; }
    readonly struct IfLe
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        cpu.Less | cpu.Zero; }
    readonly struct IfG
        : ICondition { [MethodImpl(MethodImplOptions.AggressiveInlining)] public static bool Holds(Cpu cpu) =>
        !(cpu.Less | cpu.Zero); }
}
