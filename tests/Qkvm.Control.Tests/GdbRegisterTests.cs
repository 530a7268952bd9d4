using System.Xml.Linq;
using Qkvm.Control.Gdb;
using Qkvm.Core.Accel;

namespace Qkvm.Control.Tests;

/// <summary>Registers as debuggers number, read and write them.</summary>
public class GdbRegisterTests
{
    const string FirstOnes = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags cs ss ds es "
        + "fs gs fs_base gs_base k_gs_base cr0 cr2 cr3 cr4 cr8 efer st0 st1 st2 st3 st4 st5 st6 st7 fctrl fstat ftag "
        + "fiseg fioff foseg fooff fop xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7 xmm8 xmm9 xmm10 xmm11 xmm12 xmm13 xmm14 "
        + "xmm15 mxcsr";

    static CpuRegisters Long() => new()
    {
        Cr0 = 0x80000001, Efer = 0x500, Rflags = 2, Xsave = new byte[CpuRegisters.XsaveAvx512End],
        Segments = { [CpuRegisters.Cs] = { Access = SegmentRegister.Long } },
    };

    /// <summary>QEMU 7.2's numbers, for clients that know those by heart.</summary>
    [Fact]
    public void They_are_numbered_as_QEMU_numbers_them() =>
        Assert.Equal(FirstOnes.Split(' '), GdbRegisters.All.Take(66).Select(r => r.Name));

    [Fact]
    public void The_description_names_each_register_once_with_its_type()
    {
        XElement target = XElement.Parse(System.Text.Encoding.ASCII.GetString(TargetDescription.Xml));
        string[] builtin = ["int", "int32", "int64", "uint128", "data_ptr", "code_ptr", "i387_ext"];
        string[] defined = [.. target.Descendants().Attributes("id").Select(id => id.Value)];
        XElement[] registers = [.. target.Descendants("reg")];
        Assert.Equal(GdbRegisters.All.Length, registers.Length);
        foreach (XElement register in registers)
        {
            GdbRegister known = GdbRegisters.All[int.Parse(register.Attribute("regnum")!.Value)];
            Assert.Equal(known.Name, register.Attribute("name")!.Value);
            Assert.Equal($"{known.Bits}", register.Attribute("bitsize")!.Value);
            Assert.Contains(register.Attribute("type")!.Value, builtin.Concat(defined));
        }
        Assert.Equal("i386:x86-64", target.Element("architecture")!.Value);
    }

    /// <summary>Each by itself: it reads as it was written, and no other changes.</summary>
    [Fact]
    public void Each_register_is_a_place_of_its_own()
    {
        string[] selectors = ["cs", "ss", "ds", "es", "fs", "gs"];
        CpuRegisters registers = Long();
        for (int i = 0; i < GdbRegisters.All.Length; i++)
        {
            GdbRegister register = GdbRegisters.All[i];
            if (register.Name is "efer" or "cr0" || selectors.Contains(register.Name)) continue;
            byte[] before = GdbRegisters.ReadAll(registers), written = new byte[register.Size];
            int used = register.Name is "fctrl" or "fstat" or "fiseg" or "foseg" or "fop" ? 2 : register.Size;
            for (int b = 0; b < used; b++) written[b] = (byte)(i + b + 1);
            if (register.Name == "eflags") written = [0xD7, 0x0E, 0, 0];
            if (register.Name == "ftag") written = [0xFC, 0xFF, 0, 0];
            Assert.True(register.Set(registers, written));
            int at = GdbRegisters.All.Take(i).Sum(r => r.Size);
            byte[] after = GdbRegisters.ReadAll(registers);
            if (register.Name != "ftag") Assert.Equal(written, after[at..(at + register.Size)]);
            int ftag = Array.FindIndex(GdbRegisters.All, r => r.Name == "ftag");
            int tagAt = GdbRegisters.All.Take(ftag).Sum(r => r.Size);
            for (int b = 0; b < after.Length; b++)
                if ((b < at || b >= at + register.Size) && (b < tagAt || b >= tagAt + 4))
                    Assert.Equal((register.Name, before[b]), (register.Name, after[b]));
        }
    }

    [Fact]
    public void All_at_once_read_as_they_were_written()
    {
        CpuRegisters from = Long(), to = Long();
        from.General[4] = 0x1234;
        from.Xsave[CpuRegisters.Ftw] = 0x81;
        from.Xsave[CpuRegisters.St0 + 9] = 0x3F;
        Assert.True(GdbRegisters.WriteAll(to, GdbRegisters.ReadAll(from)));
        Assert.Equal(GdbRegisters.ReadAll(from), GdbRegisters.ReadAll(to));
    }

    [Fact]
    public void Outside_64_bit_mode_general_registers_have_32_bits()
    {
        CpuRegisters registers = Long();
        registers.General[0] = 0x1122334455667788;
        registers.Efer = 0;
        Assert.Equal([0x88, 0x77, 0x66, 0x55, 0, 0, 0, 0], GdbRegisters.ReadAll(registers)[..8]);
    }

    /// <summary>Intel SDM vol. 1, section 8.1.7: two bits a register, by its place and not by its distance from the
    /// top.</summary>
    [Fact]
    public void Tags_tell_what_x87_registers_hold()
    {
        CpuRegisters registers = Long();
        registers.Xsave[CpuRegisters.Fsw + 1] = 6 << 3;            // the top is 6: ST0 and ST1 are R6 and R7
        registers.Xsave[CpuRegisters.Ftw] = 0xC0;
        registers.Xsave[CpuRegisters.St0 + 7] = 0x80;              // 1.0
        registers.Xsave[CpuRegisters.St0 + 8] = 0xFF;
        registers.Xsave[CpuRegisters.St0 + 9] = 0x3F;
        int ftag = Array.FindIndex(GdbRegisters.All, r => r.Name == "ftag");
        Span<byte> data = stackalloc byte[4];
        GdbRegisters.All[ftag].Get(registers, data);
        Assert.Equal([0xFF, 0x4F, 0, 0], data.ToArray());                  // valid, zero, six empty ones
    }

    [Fact]
    public void A_selector_takes_its_base_along_in_real_mode_and_is_refused_in_protected_mode()
    {
        GdbRegister ds = GdbRegisters.All.Single(r => r.Name == "ds");
        var registers = new CpuRegisters();
        Assert.True(ds.Set(registers, [0x34, 0x12, 0, 0]));
        Assert.Equal((0x1234, 0x12340ul), (registers.Segments[CpuRegisters.Ds].Selector,
            registers.Segments[CpuRegisters.Ds].Base));
        registers.Cr0 = 1;
        Assert.False(ds.Set(registers, [0x10, 0, 0, 0]));
        Assert.True(ds.Set(registers, [0x34, 0x12, 0, 0]));        // as it is
    }
}
