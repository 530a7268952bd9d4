using System.Runtime.InteropServices;

namespace Qkvm.Host.Sandboxing;

/// <summary>An instruction of classic BPF: struct sock_filter of linux/filter.h.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct BpfInstruction
{
    public ushort Code;
    public byte IfTrue, IfFalse;                                   // how many instructions a jump passes over
    public uint Operand;
}

/// <summary>A place that instructions before it jump to.</summary>
public sealed class BpfLabel
{
    internal int Place = -1;
}

/// <summary>Assembles a filter in classic BPF, the language of seccomp(2): one accumulator, and jumps forwards. S.
/// McCanne and V. Jacobson, "The BSD Packet Filter", section 3.</summary>
public sealed class BpfProgram
{
    public const ushort LoadWord = 0x20, AndConstant = 0x54, JumpEqual = 0x15, JumpAtLeast = 0x35,
        ReturnConstant = 0x06;

    readonly List<BpfInstruction> _code = [];
    readonly List<(int At, BpfLabel Target, bool IfTrue)> _jumps = [];

    /// <summary>A ← 32 bits of the data.</summary>
    public void Load(uint offset) => Add(LoadWord, offset);

    public void And(uint mask) => Add(AndConstant, mask);

    public void Return(uint value) => Add(ReturnConstant, value);

    public void JumpIfEqual(uint value, BpfLabel target) => Jump(JumpEqual, value, target, true);

    public void JumpUnlessEqual(uint value, BpfLabel target) => Jump(JumpEqual, value, target, false);

    public void JumpIfAtLeast(uint value, BpfLabel target) => Jump(JumpAtLeast, value, target, true);

    /// <summary>The label is here.</summary>
    public void Place(BpfLabel label) => label.Place = _code.Count;

    /// <exception cref="InvalidOperationException">A jump is longer than 255 instructions, or goes nowhere.</exception>
    public BpfInstruction[] Assemble()
    {
        BpfInstruction[] code = [.. _code];
        foreach ((int at, BpfLabel target, bool ifTrue) in _jumps)
        {
            int distance = target.Place - at - 1;
            if (target.Place < 0 || distance is < 0 or > byte.MaxValue)
                throw new InvalidOperationException($"the jump at {at} cannot reach its target");
            if (ifTrue) code[at].IfTrue = (byte)distance;
            else code[at].IfFalse = (byte)distance;
        }
        return code;
    }

    void Jump(ushort code, uint value, BpfLabel target, bool ifTrue)
    {
        _jumps.Add((_code.Count, target, ifTrue));
        Add(code, value);
    }

    void Add(ushort code, uint operand) => _code.Add(new BpfInstruction { Code = code, Operand = operand });
}
