using System.Text;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The state as QEMU's `info registers` prints it.</summary>
public sealed unsafe partial class Cpu
{
    static readonly string[] SystemTypes =
        ["Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16", "Reserved",
        "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32"];
    static readonly string[] LongSystemTypes =
        ["<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
        "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64"];

    public string DumpRegisters()
    {
        var text = new StringBuilder();
        ulong* r = State->Gpr;
        ulong flags = AllFlags;
        string letters = string.Concat("DOSZAPC".Select((letter, i) =>
            (flags & ((ulong[])[Rflags.Df, Rflags.Of, Rflags.Sf, Rflags.Zf, Rflags.Af, Rflags.Pf, Rflags.Cf])[i]) != 0
                ? letter : '-'));
        string tail = $"[{letters}] CPL={Cpl} II={State->InterruptShadow} A20={1 - State->A20Masked} SMM=0 " +
            $"HLT={State->Halted}\n";
        bool wide = Is64Bit;
        if (wide)
        {
            text.Append($"RAX={r[0]:x16} RBX={r[3]:x16} RCX={r[1]:x16} RDX={r[2]:x16}\n");
            text.Append($"RSI={r[6]:x16} RDI={r[7]:x16} RBP={r[5]:x16} RSP={r[4]:x16}\n");
            text.Append($"R8 ={r[8]:x16} R9 ={r[9]:x16} R10={r[10]:x16} R11={r[11]:x16}\n");
            text.Append($"R12={r[12]:x16} R13={r[13]:x16} R14={r[14]:x16} R15={r[15]:x16}\n");
            text.Append($"RIP={State->Rip:x16} RFL={(uint)flags:x8} ").Append(tail);
        }
        else
        {
            text.Append($"EAX={(uint)r[0]:x8} EBX={(uint)r[3]:x8} ECX={(uint)r[1]:x8} EDX={(uint)r[2]:x8}\n");
            text.Append($"ESI={(uint)r[6]:x8} EDI={(uint)r[7]:x8} EBP={(uint)r[5]:x8} ESP={(uint)r[4]:x8}\n");
            text.Append($"EIP={(uint)State->Rip:x8} EFL={(uint)flags:x8} ").Append(tail);
        }
        string[] names = ["ES", "CS", "SS", "DS", "FS", "GS"];
        for (int i = 0; i < Seg.Count; i++) Dump(text, names[i], State->Segment(i), wide);
        Dump(text, "LDT", State->Ldtr, wide);
        Dump(text, "TR", State->Tr, wide);
        if (IsLongMode)
        {
            text.Append($"GDT=     {State->GdtrBase:x16} {State->GdtrLimit:x8}\nIDT=     {State->IdtrBase:x16} " +
                $"{State->IdtrLimit:x8}\n");
            text.Append($"CR0={(uint)State->Cr0:x8} CR2={State->Cr2:x16} CR3={State->Cr3:x16} " +
                $"CR4={(uint)State->Cr4:x8}\n");
        }
        else
        {
            text.Append($"GDT=     {(uint)State->GdtrBase:x8} {State->GdtrLimit:x8}\nIDT=     " +
                $"{(uint)State->IdtrBase:x8} {State->IdtrLimit:x8}\n");
            text.Append($"CR0={(uint)State->Cr0:x8} CR2={(uint)State->Cr2:x8} CR3={(uint)State->Cr3:x8} " +
                $"CR4={(uint)State->Cr4:x8}\n");
        }
        for (int i = 0; i < 4; i++) text.Append($"DR{i}={State->Dr[i]:x16} ");
        text.Append($"\nDR6={State->Dr[6]:x16} DR7={State->Dr[7]:x16}\nEFER={State->Efer:x16}\n");
        DumpVectors(text, wide ? 16 : 8);
        return text.ToString();
    }

    void Dump(StringBuilder text, string name, in Segment segment, bool wide)
    {
        uint access = segment.Access;
        string start = wide ? $"{segment.Base:x16}" : $"{(uint)segment.Base:x8}";
        text.Append($"{name,-3}={segment.Selector:x4} {start} {segment.Limit:x8} {access << 8:x8}");
        if (IsProtected && (access & Segment.Present) != 0)
        {
            text.Append($" DPL={access >> 5 & 3} ");
            if ((access & Segment.System) == 0) text.Append((IsLongMode ? LongSystemTypes : SystemTypes)[access & 15]);
            else
            {
                bool big = (access & Segment.Big) != 0, code = (access & Segment.Code) != 0;
                text.Append(code ? (access & Segment.Long) != 0 ? "CS64" : big ? "CS32" : "CS16" : big || IsLongMode
                    ? "DS  " : "DS16");
                text.Append(" [").Append((access & Segment.ExpandDown) == 0 ? '-' : code ? 'C' : 'E');
                text.Append((access & Segment.Writable) == 0 ? '-' : code ? 'R' : 'W');
                text.Append((access & Segment.Accessed) == 0 ? '-' : 'A').Append(']');
            }
        }
        text.Append('\n');
    }

    void DumpVectors(StringBuilder text, int registers)
    {
        byte* area = State->Xsave.Bytes;
        int status = *(ushort*)(area + XsaveArea.Fsw);
        text.Append($"FCW={*(ushort*)(area + XsaveArea.Fcw):x4} FSW={status & ~0x3800:x4} [ST={status >> 11 & 7}] " +
            $"FTW={area[XsaveArea.Ftw]:x2} ");
        text.Append($"MXCSR={*(uint*)(area + XsaveArea.Mxcsr):x8}\n");
        for (int i = 0; i < 8; i++)
        {
            byte* st = area + XsaveArea.St0 + (i - (status >> 11 & 7) & 7) * 16;
            text.Append($"FPR{i}={*(ulong*)st:x16} {*(ushort*)(st + 8):x4}").Append((i & 1) != 0 ? '\n' : ' ');
        }
        if ((State->Xcr0 & Avx512State) == Avx512State)
        {
            DumpAvx512(text, registers == 16 ? 32 : 8);
            return;
        }
        bool isWide = (State->Xcr0 & 4) != 0;
        for (int i = 0; i < registers; i++)
        {
            ulong* low = (ulong*)(area + XsaveArea.Xmm0 + i * 16), high = (ulong*)(area + XsaveArea.YmmHigh0 + i * 16);
            if (isWide) text.Append($"YMM{i:d2}={high[1]:x16} {high[0]:x16} {low[1]:x16} {low[0]:x16}\n");
            else text.Append($"XMM{i:d2}={low[1]:x16} {low[0]:x16}").Append((i & 1) != 0 ? '\n' : ' ');
        }
    }

    void DumpAvx512(StringBuilder text, int registers)
    {
        const int opmasks = 8, perLine = 4, qwords = 8;
        for (int i = 0; i < opmasks; i++)
            text.Append($"Opmask{i:d2}={*VectorOps.Opmask(State, i):x16}")
                .Append(i % perLine == perLine - 1 ? '\n' : ' ');
        ulong* value = stackalloc ulong[qwords];
        for (int i = 0; i < registers; i++)
        {
            VectorOps.CopyOut512(State, i, (byte*)value);
            text.Append($"ZMM{i:d2}=");
            for (int q = qwords - 1; q >= 0; q--) text.Append($"{value[q]:x16}").Append(q == 0 ? '\n' : ' ');
        }
    }
}
