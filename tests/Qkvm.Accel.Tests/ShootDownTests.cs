using Iced.Intel;
using Qkvm.Accel.Tcg;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>One vCPU changes a page table entry and tells the other by an interrupt, which answers after INVLPG:
/// nothing of the old translation may be seen after that, in data or in code, whatever the other was doing.</summary>
public sealed unsafe class ShootDownTests
{
    const ulong Manager = TierMachine.Code, Worker = 0x20000, Handler = 0x28000, Answer = 0x30000, Valid = 0x31000,
        Stop = 0x32000, FlushInput = 0x33000,
        Looks = 0x34000;
    const uint Vector = 0x40;
    const int Rounds = 1500, OldFrame = 0, NewFrame = 1, Page = 5;
    const byte Port = 0xE0;

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void After_the_answer_nobody_sees_the_old_page(bool translated, bool runsCode)
    {
        using var tier = new TierMachine(translated, cpus: 2);
        var apic = new InterruptLine();
        tier.Machine.VCpus[1].Apic = apic;
        tier.Machine.Ports.OnWrite = _ =>
        {
            apic.Raise();
            tier.Machine.VCpus[1].InterruptPending();
        };
        tier.Map(Page, TierMachine.Frame(OldFrame));
        tier.Handle(Vector, Handler);
        // Both pages hold "mov eax, generation; ret", or the generation as data at the same place.
        foreach (int frame in new[] { OldFrame, NewFrame })
            tier.Machine.Memory.Write(TierMachine.Frame(frame), [0xB8, 0, 0, 0, 0, 0xC3]);
        PlaceManager(tier);
        PlaceHandler(tier);
        PlaceWorker(tier, runsCode);
        tier.CpuAt(1).State->RflagsSystem |= Rflags.If;
        tier.RunAll(Manager, Worker);
        CpuState* worker = tier.CpuAt(1).State;
        // RDI: stale values seen
        Assert.True(worker->Gpr[7] == 0, $"{worker->Gpr[7]} stale: look {worker->Gpr[13]} of {worker->Gpr[6]} found " +
            $"{worker->Gpr[14]:x} where {worker->Gpr[15] - 1:x} was valid");
        Assert.True(worker->Gpr[6] > 100, $"only {worker->Gpr[6]} looks");
        Assert.Equal((ulong)Rounds, tier.Read(Answer));
    }

    /// <summary>The same by Hyper-V's hypercall: when it returns, the other's TLB is empty.</summary>
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void After_a_hypercall_nobody_sees_the_old_page(bool translated, bool runsCode)
    {
        const uint guestOsId = 0x40000000;
        using var tier = new TierMachine(translated, cpus: 2, features: [("hv-vpindex", true), ("hv-tlbflush", true)]);
        tier.Map(Page, TierMachine.Frame(OldFrame));
        foreach (int frame in new[] { OldFrame, NewFrame })
            tier.Machine.Memory.Write(TierMachine.Frame(frame), [0xB8, 0, 0, 0, 0, 0xC3]);
        tier.Cpu.WriteMsr(guestOsId, 1);
        tier.Write(FlushInput + 8, 1);                               // all processors
        PlaceCaller(tier);
        PlaceWorker(tier, runsCode);
        tier.RunAll(Manager, Worker);
        CpuState* worker = tier.CpuAt(1).State;
        Assert.True(worker->Gpr[7] == 0, $"{worker->Gpr[7]} stale: look {worker->Gpr[13]} of {worker->Gpr[6]} found " +
            $"{worker->Gpr[14]:x} where {worker->Gpr[15] - 1:x} was valid");
        Assert.True(worker->Gpr[6] > 100, $"only {worker->Gpr[6]} looks");
        Assert.Equal((ulong)Rounds, tier.Read(Valid));
    }

    /// <summary>As the other, but for the way it tells.</summary>
    static void PlaceCaller(TierMachine tier) => tier.Place(Manager, c =>
    {
        const int flushSpace = 2;
        Label next = c.CreateLabel(), wait = c.CreateLabel();
        c.xor(esi, esi);
        c.mov(r12, TierMachine.Frame(NewFrame));
        c.mov(r13, TierMachine.Frame(OldFrame));
        c.Label(ref wait);
        c.pause();
        c.cmp(__dword_ptr[Looks], 100);
        c.jb(wait);
        c.Label(ref next);
        c.inc(esi);
        c.mov(__dword_ptr[r12 + 1], esi);
        c.lea(rax, __[r12 + (int)TierMachine.Present]);
        c.mov(__qword_ptr[TierMachine.EntryOf(Page)], rax);
        c.mov(ecx, flushSpace);
        c.mov(edx, (int)FlushInput);
        c.vmcall();
        c.mov(__dword_ptr[Valid], esi);
        c.mov(__dword_ptr[r13 + 1], -1);
        c.xchg(r12, r13);
        c.cmp(esi, Rounds);
        c.jb(next);
        c.mov(__dword_ptr[Stop], 1);
        c.hlt();
    });

    /// <summary>Fills the free page with the next generation, maps it, interrupts, waits, and spoils the page it took
    /// away.</summary>
    static void PlaceManager(TierMachine tier) => tier.Place(Manager, c =>
    {
        Label next = c.CreateLabel(), wait = c.CreateLabel();
        c.xor(esi, esi);
        c.mov(r12, TierMachine.Frame(NewFrame));
        c.mov(r13, TierMachine.Frame(OldFrame));
        c.Label(ref next);
        c.inc(esi);
        c.mov(__dword_ptr[r12 + 1], esi);
        c.lea(rax, __[r12 + (int)TierMachine.Present]);
        c.mov(__qword_ptr[TierMachine.EntryOf(Page)], rax);
        c.@out(Port, al);
        c.Label(ref wait);
        c.pause();
        c.cmp(__dword_ptr[Answer], esi);
        c.jne(wait);
        c.mov(__dword_ptr[r13 + 1], -1);
        c.xchg(r12, r13);
        c.cmp(esi, Rounds);
        c.jb(next);
        c.mov(__dword_ptr[Stop], 1);
        c.hlt();
    });

    static void PlaceHandler(TierMachine tier) => tier.Place(Handler, c =>
    {
        c.push(rax);
        c.mov(rax, TierMachine.Linear(Page));
        c.invlpg(__[rax]);
        c.inc(__dword_ptr[Valid]);
        c.inc(__dword_ptr[Answer]);
        c.pop(rax);
        c.iretq();
    });

    /// <summary>Sees a generation between two looks at the one that is valid; RDI counts those that are older or
    /// spoilt.</summary>
    static void PlaceWorker(TierMachine tier, bool runsCode) => tier.Place(Worker, c =>
    {
        Label loop = c.CreateLabel();
        c.xor(esi, esi);
        c.xor(edi, edi);
        c.mov(rbx, TierMachine.Linear(Page));
        c.Label(ref loop);
        c.mov(ecx, __dword_ptr[Valid]);
        if (runsCode) c.call(rbx);
        else c.mov(eax, __[rbx + 1]);
        c.inc(rsi);
        c.mov(__dword_ptr[Looks], esi);
        c.cmp(eax, ecx);                                             // unsigned: a spoilt page is far above
        c.setb(dl);
        c.inc(ecx);
        c.cmp(eax, 0x10000000);
        c.seta(dh);
        c.or(dl, dh);
        c.movzx(edx, dl);
        c.add(rdi, rdx);
        c.test(edx, edx);
        c.cmovnz(r14, rax);                                          // for the message
        c.cmovnz(r15, rcx);
        c.cmovnz(r13, rsi);
        c.cmp(__dword_ptr[Stop], 0);
        c.je(loop);
        c.cli();
        c.hlt();
    });
}
