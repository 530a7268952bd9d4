using Qkvm.Host.Sandboxing;

namespace Qkvm.Host.Tests;

/// <summary>-sandbox' filters, run instruction by instruction. What they answer is what QEMU 7.2's do.</summary>
public class SystemCallFilterTests
{
    const uint X86_64 = 0xC000003E, I386 = 0x40000003, X32 = 0x40000000;
    const uint Refused = SystemCallFilter.Error | 1, Absent = SystemCallFilter.Error | 38;
    const int Setuid = 105, Uselib = 134, Mount = 165, Setpriority = 141, SetScheduler = 144, Fork = 57, Execve = 59,
        Clone = 56, Clone3 = 435;

    static readonly SandboxRules Off = new(DenyObsolete: false), All = new(true, true, true, true);

    [Theory]
    [InlineData(Mount, SystemCallFilter.KillProcess, SystemCallFilter.KillProcess)]
    [InlineData(Uselib, SystemCallFilter.Allow, SystemCallFilter.KillProcess)]
    [InlineData(Setuid, SystemCallFilter.Allow, SystemCallFilter.KillProcess)]
    [InlineData(Fork, SystemCallFilter.Allow, SystemCallFilter.KillProcess)]
    [InlineData(Execve, SystemCallFilter.Allow, SystemCallFilter.KillProcess)]
    [InlineData(Setpriority, SystemCallFilter.Allow, Refused)]
    [InlineData(Clone3, SystemCallFilter.Allow, Absent)]
    public void A_call_is_denied_where_its_set_is(int number, uint off, uint all)
    {
        Assert.Equal(off, Judge(Off, number));
        Assert.Equal(all, Judge(All, number));
    }

    /// <summary>What the runtime, the translator and the disks live on.</summary>
    [Theory]
    [InlineData(0)] [InlineData(1)] [InlineData(9)] [InlineData(10)] [InlineData(13)] [InlineData(202)]
    [InlineData(231)] [InlineData(232)] [InlineData(234)] [InlineData(257)] [InlineData(425)] [InlineData(426)]
    public void What_a_machine_needs_stays(int number) => Assert.Equal(SystemCallFilter.Allow, Judge(All, number));

    [Theory]
    [InlineData(0x3D0F00UL, SystemCallFilter.Allow)]               // pthread_create
    [InlineData(0x7D0F00UL, SystemCallFilter.Allow)]               // detached
    [InlineData(0x11UL, SystemCallFilter.KillProcess)]             // fork
    [InlineData(0x1200011UL, SystemCallFilter.KillProcess)]        // glibc's fork
    [InlineData(0x4111UL, SystemCallFilter.KillProcess)]           // vfork
    [InlineData(0x3D0F00UL | 0x10000000, SystemCallFilter.KillProcess)] // a user namespace
    [InlineData(1UL << 32 | 0x3D0F00, SystemCallFilter.KillProcess)]
    public void Threads_can_be_made_and_processes_cannot(ulong flags, uint verdict) =>
        Assert.Equal(verdict, Judge(All, Clone, first: flags));

    [Theory]
    [InlineData(5UL, SystemCallFilter.Allow)] [InlineData(1UL, Refused)] [InlineData(1UL << 32 | 5, Refused)]
    public void Of_scheduling_policies_the_idlest_is_left(ulong policy, uint verdict) =>
        Assert.Equal(verdict, Judge(All, SetScheduler, second: policy));

    [Fact]
    public void Other_ways_into_the_kernel_are_shut()
    {
        Assert.Equal(SystemCallFilter.KillThread, Judge(Off, 0, architecture: I386));
        Assert.Equal(SystemCallFilter.KillThread, Judge(Off, (int)X32));
        Assert.Equal(SystemCallFilter.Allow, Judge(Off, -1));
    }

    /// <summary>seccomp(2) runs it over struct seccomp_data.</summary>
    static uint Judge(SandboxRules rules, int number, ulong first = 0, ulong second = 0, uint architecture = X86_64)
    {
        var data = new byte[64];
        BitConverter.TryWriteBytes(data.AsSpan(0), number);
        BitConverter.TryWriteBytes(data.AsSpan(4), architecture);
        BitConverter.TryWriteBytes(data.AsSpan(16), first);
        BitConverter.TryWriteBytes(data.AsSpan(24), second);
        uint accumulator = 0;
        BpfInstruction[] code = SystemCallFilter.Assemble(rules);
        for (int at = 0;; at++)
        {
            BpfInstruction now = code[at];
            bool holds = now.Code == BpfProgram.JumpEqual ? accumulator == now.Operand : accumulator >= now.Operand;
            switch (now.Code)
            {
                case BpfProgram.LoadWord: accumulator = BitConverter.ToUInt32(data, (int)now.Operand); break;
                case BpfProgram.AndConstant: accumulator &= now.Operand; break;
                case BpfProgram.JumpEqual or BpfProgram.JumpAtLeast: at += holds ? now.IfTrue : now.IfFalse; break;
                case BpfProgram.ReturnConstant: return now.Operand;
                default: throw new InvalidDataException($"instruction {now.Code:x}");
            }
        }
    }
}
