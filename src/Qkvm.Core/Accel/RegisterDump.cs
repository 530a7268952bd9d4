using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Core.Accel;

/// <summary>Registers as QEMU's `info registers` prints them.</summary>
public static class RegisterDump
{
    const ulong Avx = 4, Avx512 = 0xE0;                            // of XCR0

    static readonly (char Letter, int Bit)[] Flags =
        [('D', 10), ('O', 11), ('S', 7), ('Z', 6), ('A', 4), ('P', 2), ('C', 0)];

    static readonly string[] SystemTypes =
        ["Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16", "Reserved",
        "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32"];
    static readonly string[] LongSystemTypes =
        ["<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
        "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64"];
    static readonly string[] SegmentNames = ["ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"];

    public static string DumpRegisters(this IVCpu cpu) => cpu.ReadRegisters().Dump();

    public static string Dump(this CpuRegisters registers, bool withFpu = true)
    {
        var text = new StringBuilder();
        bool wide = registers.Is64Bit;
        General(text, registers, wide);
        for (int i = 0; i < SegmentNames.Length; i++)
            Segment(text, SegmentNames[i], registers, registers.Segments[i], wide);
        Control(text, registers);
        if (!withFpu) return text.ToString();
        X87(text, registers.Xsave);
        Vectors(text, registers, wide ? 16 : 8);
        return text.ToString();
    }

    static void General(StringBuilder text, CpuRegisters registers, bool wide)
    {
        ulong[] r = registers.General;
        string letters = string.Concat(Flags.Select(f => (registers.Rflags >> f.Bit & 1) != 0 ? f.Letter : '-'));
        string tail = $"[{letters}] CPL={registers.Cpl} II={registers.InterruptShadow} " +
            $"A20={(registers.A20Masked ? 0 : 1)} SMM={(registers.InSmm ? 1 : 0)} HLT={(registers.IsHalted ? 1 : 0)}\n";
        if (wide)
        {
            text.Append($"RAX={r[0]:x16} RBX={r[3]:x16} RCX={r[1]:x16} RDX={r[2]:x16}\n");
            text.Append($"RSI={r[6]:x16} RDI={r[7]:x16} RBP={r[5]:x16} RSP={r[4]:x16}\n");
            text.Append($"R8 ={r[8]:x16} R9 ={r[9]:x16} R10={r[10]:x16} R11={r[11]:x16}\n");
            text.Append($"R12={r[12]:x16} R13={r[13]:x16} R14={r[14]:x16} R15={r[15]:x16}\n");
            text.Append($"RIP={registers.Rip:x16} RFL={(uint)registers.Rflags:x8} ").Append(tail);
            return;
        }
        text.Append($"EAX={(uint)r[0]:x8} EBX={(uint)r[3]:x8} ECX={(uint)r[1]:x8} EDX={(uint)r[2]:x8}\n");
        text.Append($"ESI={(uint)r[6]:x8} EDI={(uint)r[7]:x8} EBP={(uint)r[5]:x8} ESP={(uint)r[4]:x8}\n");
        text.Append($"EIP={(uint)registers.Rip:x8} EFL={(uint)registers.Rflags:x8} ").Append(tail);
    }

    static void Segment(StringBuilder text, string name, CpuRegisters registers, in SegmentRegister segment, bool wide)
    {
        uint access = segment.Access;
        string start = wide ? $"{segment.Base:x16}" : $"{(uint)segment.Base:x8}";
        text.Append($"{name,-3}={segment.Selector:x4} {start} {segment.Limit:x8} {access << 8:x8}");
        if (registers.IsProtected && (access & SegmentRegister.Present) != 0)
        {
            text.Append($" DPL={access >> 5 & 3} ");
            if ((access & SegmentRegister.System) == 0)
                text.Append((registers.IsLongMode ? LongSystemTypes : SystemTypes)[access & 15]);
            else
            {
                bool big = (access & SegmentRegister.Big) != 0, code = (access & SegmentRegister.Code) != 0;
                text.Append(code ? (access & SegmentRegister.Long) != 0 ? "CS64" : big ? "CS32" : "CS16" : big
                    || registers.IsLongMode ? "DS  " : "DS16");
                text.Append(" [").Append((access & SegmentRegister.ExpandDown) == 0 ? '-' : code ? 'C' : 'E');
                text.Append((access & SegmentRegister.Writable) == 0 ? '-' : code ? 'R' : 'W');
                text.Append((access & SegmentRegister.Accessed) == 0 ? '-' : 'A').Append(']');
            }
        }
        text.Append('\n');
    }

    static void Control(StringBuilder text, CpuRegisters r)
    {
        if (r.IsLongMode)
        {
            text.Append($"GDT=     {r.Gdtr.Base:x16} {r.Gdtr.Limit:x8}\nIDT=     {r.Idtr.Base:x16} " +
                $"{r.Idtr.Limit:x8}\n");
            text.Append($"CR0={(uint)r.Cr0:x8} CR2={r.Cr2:x16} CR3={r.Cr3:x16} CR4={(uint)r.Cr4:x8}\n");
        }
        else
        {
            text.Append($"GDT=     {(uint)r.Gdtr.Base:x8} {r.Gdtr.Limit:x8}\nIDT=     {(uint)r.Idtr.Base:x8} " +
                $"{r.Idtr.Limit:x8}\n");
            text.Append($"CR0={(uint)r.Cr0:x8} CR2={(uint)r.Cr2:x8} CR3={(uint)r.Cr3:x8} CR4={(uint)r.Cr4:x8}\n");
        }
        for (int i = 0; i < 4; i++) text.Append($"DR{i}={r.Debug[i]:x16} ");
        text.Append($"\nDR6={r.Debug[6]:x16} DR7={r.Debug[7]:x16}\nEFER={r.Efer:x16}\n");
    }

    static void X87(StringBuilder text, ReadOnlySpan<byte> area)
    {
        int status = BinaryPrimitives.ReadUInt16LittleEndian(area[CpuRegisters.Fsw..]), top = status >> 11 & 7;
        text.Append($"FCW={BinaryPrimitives.ReadUInt16LittleEndian(area[CpuRegisters.Fcw..]):x4} " +
            $"FSW={status & ~0x3800:x4} [ST={top}] FTW={area[CpuRegisters.Ftw]:x2} ");
        text.Append($"MXCSR={BinaryPrimitives.ReadUInt32LittleEndian(area[CpuRegisters.Mxcsr..]):x8}\n");
        for (int i = 0; i < 8; i++)
        {
            ReadOnlySpan<byte> st = area[(CpuRegisters.St0 + (i - top & 7) * 16)..];
            text.Append($"FPR{i}={BinaryPrimitives.ReadUInt64LittleEndian(st):x16} " +
                $"{BinaryPrimitives.ReadUInt16LittleEndian(st[8..]):x4}")
                .Append((i & 1) != 0 ? '\n' : ' ');
        }
    }

    static void Vectors(StringBuilder text, CpuRegisters registers, int count)
    {
        byte[] area = registers.Xsave;
        if ((registers.Xcr0 & Avx512) == Avx512 && area.Length >= CpuRegisters.XsaveAvx512End)
        {
            Avx512State(text, area, count == 16 ? 32 : 8);
            return;
        }
        for (int i = 0; i < count; i++)
        {
            int xmm = CpuRegisters.Xmm0 + i * 16, high = CpuRegisters.YmmHigh0 + i * 16;
            if ((registers.Xcr0 & Avx) != 0)
                text.Append($"YMM{i:d2}={Qword(area, high + 8):x16} {Qword(area, high):x16} " +
                    $"{Qword(area, xmm + 8):x16} {Qword(area, xmm):x16}\n");
            else text.Append($"XMM{i:d2}={Qword(area, xmm + 8):x16} {Qword(area, xmm):x16}")
                .Append((i & 1) != 0 ? '\n' : ' ');
        }
    }

    static void Avx512State(StringBuilder text, byte[] area, int count)
    {
        const int opmasks = 8, perLine = 4, qwords = 8;
        for (int i = 0; i < opmasks; i++)
            text.Append($"Opmask{i:d2}={Qword(area, CpuRegisters.Opmask0 + i * 8):x16}")
                .Append(i % perLine == perLine - 1 ? '\n' : ' ');
        for (int i = 0; i < count; i++)
        {
            text.Append($"ZMM{i:d2}=");
            for (int q = qwords - 1; q >= 0; q--)
                text.Append($"{Qword(area, PlaceOf(i, q)):x16}").Append(q == 0 ? '\n' : ' ');
        }
    }

    /// <summary>Where a quadword of a ZMM register lies: the lower sixteen are spread over three components.</summary>
    static int PlaceOf(int register, int qword) => register >= 16
        ? CpuRegisters.Zmm16 + (register - 16) * 64 + qword * 8
        : qword < 2 ? CpuRegisters.Xmm0 + register * 16 + qword * 8
        : qword < 4 ? CpuRegisters.YmmHigh0 + register * 16 + (qword - 2) * 8
        : CpuRegisters.ZmmHigh0 + register * 32 + (qword - 4) * 8;

    static ulong Qword(byte[] area, int at) => BinaryPrimitives.ReadUInt64LittleEndian(area.AsSpan(at));
}
