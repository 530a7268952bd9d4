using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>String instructions in translated code: over page ends, into faults, onto code and onto registers of
/// devices. Each program runs on the interpreter too, which must leave the same.</summary>
public sealed unsafe class TranslatedStringTests
{
    const ulong Code = 0x10000, Source = 0x202FF1, Target = 0x300FF3, Absent = 0x400000, Handler = 0x11000,
        Idt = 0x20000, Gdt = 0x21000, Stack = 0x30000;
    const int Length = 0x3008;

    /// <summary>What a program leaves.</summary>
    sealed record End(ulong Rax, ulong Rcx, ulong Rsi, ulong Rdi, ulong Flags, ulong Cr2, ulong FaultRip, string Ram,
        int DeviceWrites);

    [Fact]
    public void AMoveOverPagesCopiesEveryByteAndCountsToZero()
    {
        End end = Both(a => a.rep.movsq(), Source, Target, Length / 8);
        Assert.Equal((0UL, Source + Length, Target + Length), (end.Rcx, end.Rsi, end.Rdi));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(64)]
    [InlineData(0x1001)]
    public void AMoveOntoItsOwnSourceRepeatsThePattern(int distance) =>
        Both(a => a.rep.movsb(), Source, Source + (ulong)distance, 0x2800);

    [Fact]
    public void AMoveBelowItsOwnSourceDoesNot() => Both(a => a.rep.movsw(), Source + 6, Source, 0x1800);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(0x1234)]
    public void DownwardsAndUpwardsMeetInTheMiddle(int count) => Both(a =>
    {
        a.std();
        a.rep.movsd();
        a.cld();
        a.mov(ecx, 0x70);
        a.rep.stosd();
        a.std();
        a.lodsb();
        a.movsw();
        a.stosq();
        a.scasb();
        a.cmpsd();
        a.cld();
    }, Source + 0x5000, Target + 0x5000, (ulong)count);

    [Fact]
    public void ACountOfZeroTouchesNothingAndKeepsFlags() => Both(a =>
    {
        a.stc();
        a.rep.movsb();
        a.repe.cmpsb();
        a.repne.scasd();
    }, 0xDEAD000000000000, 0xDEAD000000000000, 0);

    [Fact]
    public void APageFaultInMidStringLeavesTheRegistersAtTheElementThatFaulted()
    {
        End end = Both(a => a.rep.stosd(), 0, Absent - 0x1802, 0x1000);
        // 600h dwords end two bytes before the page: the next one crosses into it and is not written at all.
        Assert.Equal((0x1000UL - 0x600, Absent - 2, Absent, Code), (end.Rcx, end.Rdi, end.Cr2, end.FaultRip));
    }

    [Fact]
    public void AMissingSourceFaultsBeforeAMissingTarget()
    {
        End end = Both(a => a.rep.movsb(), Absent - 0x10, Absent + 0x123 - 0x10, 0x100);
        Assert.Equal(Absent + 0x113, end.Cr2);
        end = Both(a => a.rep.movsb(), Absent - 0x10, Target, 0x100);
        Assert.Equal((0xF0UL, Absent), (end.Rcx, end.Cr2));
        end = Both(a => a.movsq(), Absent, Absent + 8, 0);
        Assert.Equal((Absent, Code), (end.Cr2, end.FaultRip));
    }

    [Fact]
    public void ReadOnlyPagesTakeNoElement()
    {
        End end = Both(a => a.rep.movsb(), Source, Absent + 0x3FFFF0, 0x20);
        Assert.Equal((0x10UL, Absent + 0x400000), (end.Rcx, end.Cr2));
    }

    [Fact]
    public void ScansAndComparisonsStopBehindTheElementThatDecides() => Both(a =>
    {
        a.mov(eax, 9);
        a.mov(__byte_ptr[Target + 0x2100], 9);
        a.repne.scasb();
        a.pushfq();
        a.lea(rdi, __[Target]);
        a.repe.scasb();
        a.pushfq();
        a.mov(esi, (uint)Source);
        a.mov(edi, (uint)Target);
        a.mov(ecx, 0x500);
        a.rep.movsd();
        a.mov(__byte_ptr[Target + 0x1235], 1);
        a.mov(esi, (uint)Source);
        a.mov(edi, (uint)Target);
        a.mov(ecx, 0x500);
        a.repe.cmpsd();
        a.pushfq();
        a.repne.cmpsw();
        a.pop(rax);
        a.pop(rbx);
        a.pop(rdx);
        a.adc(rax, rbx);
        a.adc(rax, rdx);
    }, 0, Target, Length);

    [Fact]
    public void AddressesOf32BitsAndSegmentBasesAreAddedUp() => Both(a =>
    {
        a.mov(rdx, rdi);
        a.db(0x67, 0xF3, 0xA4);                                     // rep movsb by ESI, EDI, ECX
        a.mov(rdi, rdx);
        a.db(0x67, 0xAC);                                           // lodsb by ESI
        a.mov(ecx, 0x1800);
        a.sub(rsi, 0x9000);
        a.db(0x65, 0xF3, 0xA4);                                     // rep movsb from GS
        a.db(0x65, 0xA5);                                           // movsd from GS
    }, Source, Target, 0x1100);

    [Fact]
    public void WordsThatCrossPagesAreMovedWhole() => Both(a =>
    {
        a.movsq();
        a.movsd();
        a.movsw();
        a.stosq();
        a.lodsq();
        a.scasq();
        a.cmpsq();
        a.pushfq();
        a.pop(rax);
    }, Source + 9, Target + 7, 0);

    [Fact]
    public void RegistersOfADeviceSeeEachElement()
    {
        End end = Both(a => a.rep.movsd(), Source, GuestMachine.Registers, 5);
        Assert.Equal((5, 0UL), (end.DeviceWrites, end.Rcx));
        Both(a => a.rep.movsd(), GuestMachine.Registers, Target, 5);
    }

    [Fact]
    public void CodeThatAStringOverwritesIsSeen()
    {
        End end = Both(a =>
        {
            a.mov(eax, 0x90909090);
            a.rep.stosd();                                          // over the next two instructions
            a.mov(ebx, 7);
            a.mov(ebx, 8);
            a.nop();
            a.nop();
            a.mov(eax, ebx);
        }, 0, Code + 5 + 2, 3);
        Assert.Equal(0UL, end.Rax);
    }

    /// <summary>Two pages whose entries in the TLB are the same.</summary>
    [Fact]
    public void PagesThatShareAnEntryOfTheTlbMakeProgress() => Both(a =>
    {
        a.rep.movsb();
        a.mov(ecx, 100);
        a.lea(rsi, __[Source]);
        a.lea(rdi, __[Source + 0x800000]);
        a.repe.cmpsb();
    }, Source, Source + 0x800000, 0x2000);

    static End Both(Action<Assembler> program, ulong rsi, ulong rdi, ulong rcx)
    {
        End interpreted = Run(program, rsi, rdi, rcx, false), translated = Run(program, rsi, rdi, rcx, true);
        Assert.Equal(interpreted, translated);
        return translated;
    }

    static End Run(Action<Assembler> program, ulong rsi, ulong rdi, ulong rcx, bool translates)
    {
        using GuestMachine machine = new GuestMachine().Flat(64);
        Cpu cpu = machine.Cpu;
        CpuState* s = machine.S;
        cpu.Translates = translates;
        var bytes = new byte[machine.Ram.Size - 0x100000 - 0x100000];
        new Random(1).NextBytes(bytes);
        new Span<byte>(bytes, 0x1000, 0x8000).Fill(7);
        bytes.CopyTo(new Span<byte>(machine.Ram.Pointer + 0x200000, bytes.Length));
        // The device, a hole, a page that cannot be written behind all RAM, and RAM once more 8 MiB up.
        const ulong tables = GuestMachine.Tables + 0x2000;
        machine.Memory.Write(GuestMachine.Tables + 0x1000 + 3 * 8, 8, GuestMachine.Tables + 0x3000 | 7);
        machine.Memory.Write(GuestMachine.Tables + 0x3000 + (GuestMachine.Registers >> 21 & 511) * 8, 8,
            GuestMachine.Registers | 0x87);
        machine.Memory.Write(tables + (Absent >> 21) * 8, 8, 0);
        machine.Memory.Write(tables + (Absent + 0x400000 >> 21) * 8, 8, 0x600085);
        machine.Memory.Write(tables + (Source + 0x800000 >> 21) * 8, 8, 0x600087);
        // Page faults halt.
        machine.Memory.Write(Gdt + 8, 8, 0x00AF9B000000FFFF);
        machine.Memory.Write(Idt + 14 * 16, 8,
            Handler & 0xFFFF | 8 << 16 | 0x8E00UL << 32 | (Handler & 0xFFFF0000) << 32);
        machine.Memory.Write(Handler, [0xF4]);
        (s->IdtrBase, s->IdtrLimit, s->GdtrBase, s->GdtrLimit) = (Idt, 0xFFF, Gdt, 0xF);
        s->Gs.Base = 0x8000;
        machine.Place(Code, 64, a =>
        {
            program(a);
            a.hlt();
        });
        s->Gpr[4] = Stack;
        (cpu.Rsi, cpu.Rdi, cpu.Rcx) = (rsi, rdi, rcx);
        cpu.ModeChanged();
        machine.RunToHalt(Code);
        bool hasFaulted = s->Rip == Handler + 1;
        string ram =
            Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(new ReadOnlySpan<byte>(machine.Ram.Pointer
            + 0x200000, bytes.Length)));
        return new End(cpu.Rax, cpu.Rcx, cpu.Rsi, cpu.Rdi, hasFaulted ? 0 : cpu.AllFlags, s->Cr2, hasFaulted
            ? machine.Memory.Read(s->Gpr[4] + 8, 8) : 0, ram, machine.Bank.Writes.Count);
    }
}
