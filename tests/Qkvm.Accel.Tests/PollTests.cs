using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Whoever calls a vCPU is heard, however the guest goes round; and what happens to a block while it is
/// left.</summary>
public sealed unsafe class PollTests
{
    [Fact]
    public void Calls_that_go_round()
    {
        using var tier = new TierMachine(translated: true);
        tier.Place(TierMachine.Code, c =>
        {
            Label loop = c.CreateLabel();
            c.Label(ref loop);
            c.lea(rsp, __[rsp + 8]);
            c.call(loop);
        });
        AssertStops(tier.Machine, TierMachine.Code);
    }

    /// <summary>The caller lies in another page, and flags may be read there.</summary>
    [Fact]
    public void Calls_to_another_page_that_go_round()
    {
        using var tier = new TierMachine(translated: true);
        tier.Place(TierMachine.Code + 0x1000, c =>
        {
            c.test(rax, rax);
            c.call(TierMachine.Code);
        });
        tier.Place(TierMachine.Code, c =>
        {
            c.lea(rsp, __[rsp + 8]);
            c.jmp(TierMachine.Code + 0x1000);
        });
        AssertStops(tier.Machine, TierMachine.Code);
    }

    /// <summary>Three jumps, each forward by a third of the address space.</summary>
    [Theory]
    [InlineData(new byte[] { 0xE9 })]
    [InlineData(new byte[] { 0x0F, 0x84 })]
    public void Jumps_forward_that_go_round_4_GiB(byte[] jump)
    {
        using GuestMachine machine = new GuestMachine(1).Flat(32);
        uint[] at = [0x10000, 0x55410100, 0xAA810200];
        // Pages of 4 MiB, all the same.
        foreach (uint linear in at) machine.Memory.Write(GuestMachine.Tables + (linear >> 22) * 4, 4, 0x83);
        machine.Paging(PagingMode.Legacy);
        machine.Cpu.Translates = true;
        for (int i = 0; i < at.Length; i++)
        {
            uint after = at[i] + 2 + (uint)jump.Length + 4, target = at[(i + 1) % at.Length];
            // cmp eax, eax; j
            machine.Memory.Write(at[i] & 0x3FFFFF, [0x39, 0xC0, .. jump, .. BitConverter.GetBytes(target - after)]);
        }
        AssertStops(machine, at[0]);
    }

    static void AssertStops(GuestMachine machine, ulong rip)
    {
        machine.S->Rip = rip;
        VCpuExit exit = default;
        var thread = new Thread(() => exit = machine.VCpu.Run()) { IsBackground = true };
        thread.Start();
        Thread.Sleep(500);
        machine.VCpu.Kick();
        // Nothing could be freed while it runs.
        if (!thread.Join(TimeSpan.FromSeconds(60))) Environment.FailFast("the vCPU does not stop");
        Assert.Equal(new VCpuExit(ExitReason.Kicked), exit);
    }

    /// <summary>A page table in a device's registers, which writes to the block's page while the jump out of the block
    /// is linked.</summary>
    [Fact]
    public void A_block_is_dropped_while_a_jump_out_of_it_is_linked()
    {
        const ulong table = 0xF1000000, directory = GuestMachine.Tables + 0x3000;
        const int page = 0x20;
        // The blocks J1 and J2 share the block's place in the TLB.
        const ulong block = TierMachine.Window + (2UL << 20) + page * TierMachine.Page,
            others = TierMachine.Window + (10UL << 20),
            j = others + 0x20000, n = others + 0x30000, physical = 0x400000;
        using var tier = new TierMachine(translated: true);
        var bank = new TableBank { Entry = physical | TierMachine.Present | 0x60 };
        tier.Machine.Root.Map(table, MemoryRegion.Io("table", 0x1000, bank, AccessSizes.UpToQword));
        tier.Write(directory + 8, table | TierMachine.Present);
        tier.Write(directory + 5 * 8, 0x83);
        void Place(ulong linear, ulong at, Action<Assembler> program)
        {
            var assembler = new Assembler(64);
            program(assembler);
            using var stream = new MemoryStream();
            assembler.Assemble(new StreamCodeWriter(stream), linear);
            tier.Machine.Memory.Write(at, stream.ToArray());
        }
        Place(block, physical, c =>
        {
            Label taken = c.CreateLabel(), end = c.CreateLabel();
            c.jrcxz(taken);
            c.jmp(n);
            c.Label(ref taken);
            c.mov(ecx, 1);
            c.dec(edx);
            c.jz(end);
            c.jmp(j);
            c.Label(ref end);
            c.hlt();
        });
        Place(n, 0x30000, c =>
        {
            c.dec(rcx);
            c.jz(j + 0x100);
            c.jmp(j);
        });
        Place(j, 0x20000, c => c.jmp(block));
        Place(j + 0x100, 0x20100, c => c.jmp(j));
        // The walks for the block, for the way back to it, for the jump out of it.
        bank.OnRead = count =>
        {
            if (count == 3) tier.Machine.Memory.Write(physical, 1, tier.Machine.Memory.Read(physical, 1));
        };
        (tier.Cpu.Rcx, tier.Cpu.Rdx) = (2, 3);
        tier.Cpu.FlushTlb(global: true);
        tier.Run(block);
        Assert.Equal((-1, 0UL), (tier.Vector, tier.Cpu.Rdx));
        Assert.True(bank.Reads >= 3, $"{bank.Reads} walks");
    }

    sealed class TableBank : IRegisterBank
    {
        public ulong Entry { get; set; }
        public int Reads { get; private set; }
        public Action<int>? OnRead { get; set; }

        public ulong Read(ulong offset, int size)
        {
            OnRead?.Invoke(++Reads);
            return Entry;
        }

        public void Write(ulong offset, int size, ulong value) { }
    }
}
