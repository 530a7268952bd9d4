using System.Runtime.InteropServices;
using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Thunks;
using Qkvm.Accel.Tcg.Translator;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>Of random instructions: what is translated touches no memory and changes no general register that the
/// translator does not know of. A guest could reach the host's memory by one that did.</summary>
public sealed unsafe class TranslatorKnowledgeTests
{
    const int Samples = 1_000_000, Longest = 15;

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void All_memory_and_all_registers_are_known(int bits)
    {
        using GuestMachine machine = new GuestMachine(1).Flat(bits);
        Cpu cpu = machine.Cpu;
        CpuState* s = cpu.State;
        s->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave | Cr4.Fsgsbase;
        s->Xcr0 = cpu.Xcr0Supported;
        cpu.ModeChanged();
        var page = (byte*)NativeMemory.AllocZeroed(2 * Unit.PageSize);
        var unit = new Unit(cpu, page);
        var factory = new InstructionInfoFactory();
        var random = new Random(bits);
        var translated = new HashSet<Code>();
        var wrong = new HashSet<string>();
        for (int i = 0; i < HostNeeds.Share(Samples); i++)
        {
            Fill(new Span<byte>(page, Longest), random, bits);
            unit.Plan(cpu.CurrentMode(), 0, 0, careful: true, limit: 1);
            if (unit.Count == 0 || unit.Steps[0].Treatment is Treatment.Interpret or Treatment.RepeatedString) continue;
            ref readonly Step step = ref unit.Steps[0];
            translated.Add(step.X.Code);
            InstructionInfo info = factory.GetInfo(step.X);
            if (Unknown(unit, step, info) is { } what) wrong.Add($"{step.X.Code} ({step.Treatment}): {what}");
        }
        NativeMemory.Free(page);
        Assert.True(wrong.Count == 0, string.Join('\n', wrong.Order().Take(40)));
        Assert.True(translated.Count > (HostFeatures.Current.Has("avx512f") ? HostNeeds.Kinds(1000) : 300),
            $"only {translated.Count} forms");
    }

    static string? Unknown(Unit unit, in Step step, in InstructionInfo info)
    {
        if (OpInfo.IsCopied(step.Treatment) && !EmittedCode.Runs(step.X.Code)) return "this processor lacks it";
        int known = Unit.Written(step);
        foreach (UsedRegister register in info.GetUsedRegisters())
            if (register.Register.IsGPR() && IsWritten(register.Access)
                && register.Register.GetFullRegister() != Register.RSP
                && (known >> Unit.GuestNumber(register.Register) & 1) == 0) return $"writes {register.Register}";
        if (step.Treatment is Treatment.Nop or Treatment.Lea) return null;
        foreach (UsedMemory memory in info.GetUsedMemory())
            if (memory.Access != OpAccess.NoMemAccess && !IsKnown(unit, memory)) return $"accesses {memory}";
        return null;
    }

    static bool IsKnown(Unit unit, in UsedMemory memory)
    {
        int baseRegister = Number(memory.Base), index = Number(memory.Index), size = memory.MemorySize.GetSize();
        long displacement = (long)memory.Displacement;
        for (int i = 0; i < unit.AccessCount; i++)
        {
            ref readonly Access access = ref unit.Accesses[i];
            int from = access.Base == Access.Rip ? Access.None : access.Base;
            long distance = displacement - access.Displacement;
            distance = memory.AddressSize switch { CodeSize.Code16 => (short)distance, CodeSize.Code32 => (int)distance,
                _ => distance };
            bool sameIndex = access.Index == index && (index == Access.None || 1 << access.Shift == memory.Scale);
            if (from == baseRegister && sameIndex && size > 0 && distance >= 0 && distance + size <= access.Size
                && (access.IsWrite || !IsWritten(memory.Access))) return true;
        }
        return false;
    }

    static int Number(Register register) => register == Register.None ? Access.None : register.GetNumber();

    static bool IsWritten(OpAccess access) =>
        access is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite or OpAccess.ReadCondWrite;

    /// <summary>Prefixes and an opcode of any of the maps, the rest random.</summary>
    internal static void Fill(Span<byte> code, Random random, int bits)
    {
        random.NextBytes(code);
        int at = 0;
        for (ReadOnlySpan<byte> prefixes = [0x66, 0xF2, 0xF3, 0x67, 0xF0, 0x64]; random.Next(3) == 0;)
            code[at++ % 4] = prefixes[random.Next(prefixes.Length)];
        at = Math.Min(at, 4);
        if (bits == 64 && random.Next(2) == 0) code[at++] = (byte)(0x40 | random.Next(16));
        switch (random.Next(6))
        {
            case 0: code[at] = 0x0F; break;
            case 1: (code[at], code[at + 1]) = (0x0F, (byte)(random.Next(2) == 0 ? 0x38 : 0x3A)); break;
            case 2: (code[0], code[1], code[2]) =
                (0xC4, (byte)(code[1] & 0xE0 | random.Next(1, 4)),
                (byte)(random.Next(2) == 0 ? code[2] | 0x78 : code[2])); break;
            case 3: (code[0], code[1]) = (0x62, (byte)(code[1] & 0xF0 | random.Next(1, 4))); code[2] |= 4; break;
            case 4: code[0] = 0xC5; break;
        }
    }
}
