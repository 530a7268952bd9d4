using Iced.Intel;
using Qkvm.Core.Accel;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>Memory that a debugger watches on the software CPU.</summary>
public unsafe class WatchpointTests
{
    const ulong Code = TierMachine.Code, Data = 0x30000;

    static readonly Dictionary<string, Action<Assembler>> s_accesses = new()
    {
        ["write"] = static c => c.mov(__qword_ptr[Data + 16], rbx),
        ["write byte"] = static c => c.mov(__byte_ptr[Data + 19], bl),
        ["write into it"] = static c => c.mov(__qword_ptr[Data + 12], rbx),
        ["read"] = static c => c.mov(rbx, __qword_ptr[Data + 16]),
        ["before"] = static c => c.mov(__qword_ptr[Data + 8], rbx),
        ["behind"] = static c => c.mov(__qword_ptr[Data + 20], rbx),
        ["add"] = static c => c.add(__dword_ptr[Data + 16], ebx),
        ["vector"] = static c => c.movups(__xmmword_ptr[Data + 8], xmm0),
        ["strings"] = static c =>
        {
            c.mov(rdi, Data);
            c.mov(ecx, 8);
            c.rep.stosq();
        },
        ["push"] = static c =>
        {
            c.mov(rsp, Data + 24);
            c.push(rbx);
        },
    };

    public static TheoryData<bool, string, DebugPointKind, bool> Cases()
    {
        var cases = new TheoryData<bool, string, DebugPointKind, bool>();
        foreach (bool translated in new[] { true, false })
        {
            foreach (string hit in new[] { "write", "write byte", "write into it", "add", "vector", "strings", "push" })
            {
                cases.Add(translated, hit, DebugPointKind.Write, true);
                cases.Add(translated, hit, DebugPointKind.Access, true);
            }
            cases.Add(translated, "write", DebugPointKind.Read, false);
            cases.Add(translated, "read", DebugPointKind.Read, true);
            cases.Add(translated, "add", DebugPointKind.Read, true);
            cases.Add(translated, "read", DebugPointKind.Write, false);
            cases.Add(translated, "before", DebugPointKind.Access, false);
            cases.Add(translated, "behind", DebugPointKind.Access, false);
        }
        return cases;
    }

    /// <summary>Four bytes are watched. It stops behind the instruction, in code that has run before.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void It_stops_behind_the_access(bool translated, string access, DebugPointKind kind, bool stops)
    {
        using var tier = new TierMachine(translated);
        ulong rsp = tier.Cpu.Rsp;
        tier.Cpu.Rdx = 0;
        int length = tier.Place(Code, c =>
        {
            s_accesses[access](c);
            c.inc(rdx);
            c.hlt();
        });
        tier.Run();
        Assert.Equal(1u, tier.Cpu.Rdx);
        (tier.Cpu.Rdx, tier.Cpu.Rsp) = (0, rsp);
        var point = new DebugPoint(kind, Data + 16, 4);
        tier.Machine.StopAt(point);
        if (!stops)
        {
            tier.Run();
            Assert.Equal(1u, tier.Cpu.Rdx);
            return;
        }
        tier.Cpu.State->Rip = Code;
        VCpuExit exit = tier.Machine.VCpu.Run();
        Assert.Equal((ExitReason.Debug, point), (exit.Reason, exit.Stop.Point));
        Assert.InRange(exit.Stop.Address, Data + 16, Data + 19);
        if (access == "strings") return;                           // may be told between two elements
        Assert.Equal((Code + (ulong)length - 4, 0ul), (tier.Cpu.State->Rip, tier.Cpu.Rdx));
        tier.Machine.StopAt();
        tier.Run(tier.Cpu.State->Rip);
        Assert.Equal(1u, tier.Cpu.Rdx);
    }

    [Theory]
    [InlineData(0x1000, 8, 0x1008, 0x2000)]
    [InlineData(0xFFFFFFFFFFFFFFFC, 8, 0x1000, 0x2000)]
    [InlineData(0x1FFF, 1, 0x3000, 0x4000)]
    public void A_point_is_in_the_pages_of_its_bytes_alone(ulong at, ulong length, ulong beside, ulong page)
    {
        var point = new DebugPoint(DebugPointKind.Access, at, length);
        Assert.True(point.IsInPage(at & ~0xFFFul));
        Assert.True(point.IsInPage(at + length - 1 & ~0xFFFul));
        Assert.False(point.IsInPage(page));
        Assert.True(point.IsHitBy(at, 1, false));
        Assert.True(point.IsHitBy(at - 7, 8, true));
        Assert.False(point.IsHitBy(beside, 1, true));
        Assert.False(point.IsHitBy(at - 8, 8, true));
    }
}
