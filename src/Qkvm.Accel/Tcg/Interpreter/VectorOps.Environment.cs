namespace Qkvm.Accel.Tcg;

// The x87 environment in memory. Intel SDM vol. 1, figures 8-9 to 8-12.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class VectorOps
{
    const int MaximalEnvironment = 28, RegisterBytes = 10, Registers8 = 8 * RegisterBytes;

    static int EnvironmentSize(Insn* i) => i->OperandSize * 7;

    static bool HasRealFormat(Cpu cpu) => !cpu.IsProtected || cpu.IsVirtual8086;

    static void StoreEnvironment(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        int size = EnvironmentSize(i);
        byte* image = stackalloc byte[MaximalEnvironment];
        MakeEnvironment(cpu, i, image);
        cpu.WriteBytes(cpu.VectorLinear(i, size, write: true), new ReadOnlySpan<byte>(image, size));
        cpu.X87Control |= AllMasks;
        cpu.SummarizeX87();
    }

    static void SaveAll(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        int size = EnvironmentSize(i);
        byte* image = stackalloc byte[MaximalEnvironment + Registers8], area = cpu.State->Xsave.Bytes;
        MakeEnvironment(cpu, i, image);
        for (int n = 0; n < 8; n++)
            Buffer.MemoryCopy(area + XsaveArea.St0 + n * 16, image + size + n * RegisterBytes, RegisterBytes,
                RegisterBytes);
        cpu.WriteBytes(cpu.VectorLinear(i, size + Registers8, write: true),
            new ReadOnlySpan<byte>(image, size + Registers8));
        Initialize(cpu);
    }

    static void LoadEnvironment(Cpu cpu, Insn* i)
    {
        CheckWaiting(cpu);
        int size = EnvironmentSize(i);
        byte* image = stackalloc byte[MaximalEnvironment];
        cpu.ReadBytes(cpu.VectorLinear(i, size, write: false), new Span<byte>(image, size));
        TakeEnvironment(cpu, i, image);
    }

    static void RestoreAll(Cpu cpu, Insn* i)
    {
        CheckWaiting(cpu);
        int size = EnvironmentSize(i);
        byte* image = stackalloc byte[MaximalEnvironment + Registers8], area = cpu.State->Xsave.Bytes;
        cpu.ReadBytes(cpu.VectorLinear(i, size + Registers8, write: false), new Span<byte>(image, size + Registers8));
        TakeEnvironment(cpu, i, image);
        for (int n = 0; n < 8; n++)
        {
            byte* from = image + size + n * RegisterBytes, to = area + XsaveArea.St0 + n * 16;
            *(ulong*)to = *(ulong*)from;
            *(ulong*)(to + 8) = *(ushort*)(from + 8);
        }
    }

    static void MakeEnvironment(Cpu cpu, Insn* i, byte* image)
    {
        byte* area = cpu.State->Xsave.Bytes;
        uint instruction = *(uint*)(area + InstructionPointerAt), data = *(uint*)(area + DataPointerAt),
            opcode = *(ushort*)(area + OpcodeAt);
        ushort tags = FullTags(area);
        bool isReal = HasRealFormat(cpu);
        if (i->OperandSize == 2)
        {
            ushort* words = (ushort*)image;
            (words[0], words[1], words[2]) = (cpu.X87Control, cpu.X87Status, tags);
            (words[3], words[5]) = ((ushort)instruction, (ushort)data);
            words[4] = (ushort)(isReal ? instruction >> 4 & 0xF000 | opcode : 0);
            words[6] = (ushort)(isReal ? data >> 4 & 0xF000 : 0);
            return;
        }
        const uint reserved = 0xFFFF0000;
        uint* dwords = (uint*)image;
        (dwords[0], dwords[1], dwords[2]) = (reserved | cpu.X87Control, reserved | cpu.X87Status, reserved | tags);
        (dwords[3], dwords[4]) = isReal ? (reserved | (ushort)instruction, instruction >> 4 & 0x0FFFF000 | opcode)
            : (instruction, opcode << 16);
        (dwords[5], dwords[6]) = isReal ? (reserved | (ushort)data, data >> 4 & 0x0FFFF000) : (data, reserved);
    }

    static void TakeEnvironment(Cpu cpu, Insn* i, byte* image)
    {
        byte* area = cpu.State->Xsave.Bytes;
        int step = i->OperandSize;
        uint instruction, data;
        if (step == 2)
        {
            ushort* words = (ushort*)image;
            (instruction, data) = (words[3], words[5]);
            if (HasRealFormat(cpu))
                (instruction, data) = (instruction | (words[4] & 0xF000u) << 4, data | (words[6] & 0xF000u) << 4);
        }
        else
        {
            uint* dwords = (uint*)image;
            (instruction, data) = (dwords[3], dwords[5]);
            if (HasRealFormat(cpu))
                (instruction, data) =
                    ((ushort)instruction | (dwords[4] & 0x0FFFF000) << 4, (ushort)data | (dwords[6] & 0x0FFFF000) << 4);
        }
        *(ulong*)(area + InstructionPointerAt) = instruction;
        *(ulong*)(area + DataPointerAt) = data;
        ushort status = *(ushort*)(image + step);
        cpu.SetX87Top(status >> 11 & 7);
        cpu.X87Status = status;
        uint tags = *(ushort*)(image + step * 2);
        byte valid = 0;
        for (int n = 0; n < 8; n++)
            if ((tags >> n * 2 & 3) != 3) valid |= (byte)(1 << n);
        area[XsaveArea.Ftw] = valid;
        SetControl(cpu, *(ushort*)image);
    }

    /// <summary>The tag word from valid bits and contents: 0 valid, 1 zero, 2 special, 3 empty.</summary>
    static ushort FullTags(byte* area)
    {
        int top = *(ushort*)(area + XsaveArea.Fsw) >> 11 & 7;
        uint tags = 0;
        for (int n = 0; n < 8; n++)
        {
            byte* register = area + XsaveArea.St0 + (n - top & 7) * 16;
            ulong significand = *(ulong*)register;
            int exponent = *(ushort*)(register + 8) & 0x7FFF;
            uint tag = (area[XsaveArea.Ftw] >> n & 1) == 0 ? 3u
                : exponent == 0 && significand == 0 ? 1u
                : exponent is 0 or 0x7FFF || (long)significand >= 0 ? 2u : 0u;
            tags |= tag << n * 2;
        }
        return (ushort)tags;
    }
}
