using Qkvm.Accel.Kvm;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Accel.Tests;

/// <remarks>What is told when a guest cannot go on, and what is counted.</remarks>
public sealed partial class KvmTests
{
    [KvmFact]
    public void Code_from_no_memory_is_explained_with_registers_and_code()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        Place("EA 10 00 FF FF");                                   // jmp FFFF:0010, where nothing is
        VCpuExit exit = cpu.Run();
        Assert.Equal(ExitReason.Failed, exit.Reason);
        Assert.StartsWith("KVM internal error. Suberror: 1\n", exit.Message);
        Assert.Contains("\nemulation failure", exit.Message);
        Assert.Contains("EIP=00000010", exit.Message);
        Assert.Contains("CS =ffff", exit.Message);
        Assert.Contains("<??>", exit.Message!.Split("Code=")[1]);
    }

    [KvmFact]
    public void Exits_are_counted_by_reason()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        Execute(cpu, "BA 00 05 EE EE EE B0 00 E6 0F");             // mov dx,500h; three times out dx,al; the end
        Statistic io = Assert.Single(kvm.Statistics(cpu), one => one.Name == "userspace-exits-io");
        Assert.Equal(4UL, io.Values[0]);
        Assert.Equal(StatisticKind.Cumulative, io.Kind);
    }

    [KvmFact]
    public void Whoever_counts_does_not_wait_for_a_processor_that_sleeps_in_the_kernel()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        using var sleeps = new ManualResetEventSlim();
        Place($"E6 0F {SleepForEver}");                            // out 0Fh,al
        _end.OnWrite = sleeps.Set;
        Task<VCpuExit> run = Task.Run(cpu.Run);
        Assert.True(sleeps.Wait(ModeGuest.Patience));
        Thread.Sleep(50);                                          // likely in HLT now
        Assert.True(Task.Run(() => kvm.Statistics(cpu)).Wait(ModeGuest.Patience));
        Assert.False(cpu.IsHalted);                                // the kernel alone knows
        cpu.Kick();
        Assert.True(run.Wait(ModeGuest.Patience));
        Assert.True(cpu.IsHalted);
    }

    [KvmFact]
    public void More_processors_than_the_kernel_allows_are_refused()
    {
        var e = Assert.Throws<ConfigurationException>(() => new KvmAccelerator(cpus: 1_000_000));
        Assert.Contains("(1000000) exceeds the maximum cpus supported by KVM", e.Message);
    }

    [KvmFact]
    public void Every_register_that_can_be_set_reads_as_it_was_set()
    {
        foreach (KernelIrqChip mode in Enum.GetValues<KernelIrqChip>())
        {
            using var kvm = new KvmAccelerator(mode);
            IVCpu cpu = Create(kvm);
            CpuRegisters set = cpu.ReadRegisters();
            for (int i = 0; i < 16; i++) set.General[i] = 0x1111_1111_1111_1111UL * (ulong)i;
            (set.Rip, set.Cr2) = (0x1234, 0xABCD000);
            for (int i = 0; i < 4; i++) set.Debug[i] = 0x1000u * (ulong)(i + 1);
            set.Xsave[CpuRegisters.Xmm0] = 0x5A;
            set.Xsave[512] |= 3;                                   // XSTATE_BV: x87 and SSE are there
            set.Msrs[0x174] = 0x10;
            set.Msrs[0xC0000082] = 0x12345678;
            set.IsHalted = true;
            cpu.WriteRegisters(set);
            CpuRegisters read = cpu.ReadRegisters();
            Assert.Equal(set.General, read.General);
            Assert.Equal((set.Rip, set.Cr2, set.IsHalted), (read.Rip, read.Cr2, read.IsHalted));
            Assert.Equal(set.Debug, read.Debug);
            Assert.Equal(0x5A, read.Xsave[CpuRegisters.Xmm0]);
            Assert.Equal((0x10UL, 0x12345678UL), (read.Msrs[0x174], read.Msrs[0xC0000082]));
        }
    }
}
