using Qkvm.Accel.Tcg;
using M = Qkvm.Accel.Tests.SystemMachine;

namespace Qkvm.Accel.Tests;

/// <summary>The opcodes that are hints or reserved for them: 0F 0D and 0F 18 to 0F 1F. Intel SDM vol. 2, NOP, RDSSP and
/// table A-3; AMD APM vol. 3, PREFETCH and table A-3.</summary>
public sealed unsafe class HintTests
{
    const byte EndPort = 0x81;
    const int InvalidOpcode = 6;

    public static TheoryData<string, int, bool> Cases()
    {
        var cases = new TheoryData<string, int, bool>();
        foreach (bool translated in (bool[])[false, true])
        {
            foreach (int bits in (int[])[16, 32, 64])
                foreach (string model in (string[])["max", "EPYC", "Nehalem", "Skylake-Server"])
                    cases.Add(model, bits, translated);
            cases.Add("pentium2", 16, translated);
            cases.Add("pentium3", 32, translated);
            cases.Add("athlon", 32, translated);
        }
        return cases;
    }

    static SystemMachine Make(string model, int bits) => Enter(new M(model), bits);

    static SystemMachine Enter(M m, int bits) => bits == 16 ? m.Real() : bits == 32 ? m.Protected32() : m.Long64();

    /// <summary>What an opcode with any ModRM, SIB and displacement takes; the rest is NOP.</summary>
    static byte[] Encode(byte[] prefixes, byte opcode, int modRm) =>
        [.. prefixes, 0x0F, opcode, (byte)modRm, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90];

    [Theory, MemberData(nameof(Cases))]
    public void All_of_them_do_nothing(string model, int bits, bool translated)
    {
        byte[][] prefixes = bits == 64 ? [[], [0x66], [0xF2], [0xF3], [0x48], [0xF3, 0x48], [0x66, 0x4F]]
            : [[], [0x66], [0xF2], [0xF3], [0x67], [0x2E]];
        using var m = new M(model);
        foreach (byte opcode in (byte[])[0x0D, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F])
            foreach (byte[] prefix in prefixes)
            {
                Enter(m, bits);
                byte[] code = [];
                for (int modRm = 0; modRm < 256; modRm++)
                    if (opcode != 0x0D || modRm < 0xC0 || !m.Cpu.Model.Model.IsAmd)
                        code = [.. code, .. Encode(prefix, opcode, modRm)];
                m.Place([.. code, 0xE6, EndPort]);
                ulong rsp = m.Rsp;
                for (int i = 0; i < 16; i++) if (i != 4) m.S->Gpr[i] = 0x1234567890ABCDEF * (ulong)(i + 1);
                ulong end = m.S->Rip + (ulong)code.Length + 2;
                m.Go(translated);
                if (m.S->Rip == M.Handlers || m.HandlerVector is > 0 and < 32 || m.S->Rip != end)
                    Assert.Fail($"{Convert.ToHexString(prefix)} 0F {opcode:X2}: stopped at {m.S->Rip:x}");
                Assert.Equal(rsp, m.Rsp);
                for (int i = 0; i < 16; i++) if (i != 4) Assert.Equal(0x1234567890ABCDEF * (ulong)(i + 1), m.S->Gpr[i]);
            }
    }

    [Theory]
    [InlineData("max", 0x0D, 0xC8, true)]                            // PREFETCHW of a register: AMD's want memory
    [InlineData("Nehalem", 0x0D, 0xC8, false)]
    [InlineData("486", 0x1F, 0x00, true)]                            // no NOP of more bytes before the P6
    [InlineData("pentium", 0x18, 0x00, true)]
    [InlineData("pentium", 0x0D, 0x08, true)]
    [InlineData("qemu32", 0x1E, 0xC8, false)]
    public void Makers_differ(string model, byte opcode, int modRm, bool faults)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = Make(model, 32);
            m.Place([.. Encode([], opcode, modRm), 0xCC]);
            m.Go(translated);
            Assert.Equal(faults ? InvalidOpcode : 3, m.HandlerVector);
        }
    }

    [Fact]
    public void None_can_be_locked()
    {
        foreach (byte opcode in (byte[])[0x0D, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F])
            foreach (int modRm in (int[])[0x03, 0xC3])
            {
                using SystemMachine m = Make("max", 64);
                m.Place(Encode([0xF0], opcode, modRm));
                m.Go(translated: true);
                Assert.Equal(InvalidOpcode, m.HandlerVector);
            }
    }

    /// <summary>They are instructions of shadow stacks alone.</summary>
    [Theory]
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0xAE, 0xE8 })]        // INCSSPQ
    [InlineData(new byte[] { 0xF3, 0x0F, 0x01, 0xEA })]              // SAVEPREVSSP
    [InlineData(new byte[] { 0xF3, 0x0F, 0x01, 0x2B })]              // RSTORSSP
    [InlineData(new byte[] { 0xF3, 0x0F, 0x01, 0xE8 })]              // SETSSBSY
    [InlineData(new byte[] { 0x0F, 0x38, 0xF6, 0x03 })]              // WRSSD
    [InlineData(new byte[] { 0x66, 0x0F, 0x38, 0xF5, 0x03 })]        // WRUSSD
    [InlineData(new byte[] { 0xF3, 0x0F, 0xAE, 0x33 })]              // CLRSSBSY
    public void Others_do_not_exist_without_them(byte[] code)
    {
        foreach (bool translated in (bool[])[false, true])
        {
            using SystemMachine m = Make("max", 64);
            m.Place(code);
            m.Go(translated);
            Assert.Equal(InvalidOpcode, m.HandlerVector);
        }
    }
}
