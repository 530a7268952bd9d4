using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Transactions that never begin: Intel SDM vol. 2, XBEGIN, XABORT, XEND and XTEST; and MOVDIR64B.</summary>
public sealed unsafe class TransactionTests
{
    const ulong Code = 0x10000, Data = 0x30000;

    static GuestMachine Run(Action<Assembler> program)
    {
        GuestMachine machine =
            new GuestMachine(1, "max", ("rtm", true), ("hle", true), ("movdir64b", true)).Flat(64);
        machine.Place(Code, 64, program);
        machine.Cpu.Rax = ulong.MaxValue;
        machine.RunToHalt(Code);
        return machine;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_transaction_aborts_at_once(bool elides)
    {
        using GuestMachine machine = Run(a =>
        {
            Label other = a.CreateLabel();
            a.mov(rcx, (long)Data);
            a.xor(ebx, ebx);
            a.xbegin(other);
            a.mov(ebx, 1);
            a.Label(ref other);
            a.mov(edx, 2);
            if (elides) a.xacquire.@lock.add(__dword_ptr[rcx], 5);
            a.hlt();
        });
        Assert.Equal((0UL, 0UL, 2UL), (machine.Cpu.Rax, machine.Cpu.Rbx, machine.Cpu.Rdx));
        Assert.Equal(elides ? 5u : 0, *(uint*)(machine.Ram.Pointer + Data));
    }

    [Fact]
    public void Outside_of_one_XABORT_does_nothing_and_XTEST_says_so()
    {
        using GuestMachine machine = Run(a =>
        {
            a.mov(rsp, (long)Data);
            a.stc();
            a.xabort(3);
            a.xtest();
            a.pushfq();
            a.pop(rbx);
            a.hlt();
        });
        Assert.Equal(Rflags.Zf, machine.Cpu.Rbx & Rflags.Arithmetic);
        Assert.Equal(ulong.MaxValue, machine.Cpu.Rax);
    }

    [Fact]
    public void XEND_without_a_transaction_is_a_fault()
    {
        using var m = new SystemMachine("max", ("rtm", true));
        m.Protected32();
        m.Place(0x0F, 0x01, 0xD5);
        m.Go(translated: false);
        Assert.Equal(13, m.HandlerVector);
    }

    [Fact]
    public void A_line_is_moved_as_one()
    {
        using GuestMachine machine = Run(a =>
        {
            a.mov(rsi, (long)Data);
            a.mov(rdi, (long)Data + 0x100);
            for (int i = 0; i < 8; i++) a.mov(__qword_ptr[rsi + i * 8], i + 1);
            a.movdir64b(rdi, __[rsi]);
            a.hlt();
        });
        for (int i = 0; i < 8; i++)
            Assert.Equal((ulong)i + 1, *(ulong*)(machine.Ram.Pointer + Data + 0x100 + i * 8));
    }
}
