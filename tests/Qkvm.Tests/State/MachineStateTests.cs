using System.Buffers.Binary;
using System.Text.RegularExpressions;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Tests.State;

public partial class MachineStateTests
{
    [Theory]
    [InlineData(1, "=== PCI device probing ===")] [InlineData(2, "Found 2 cpu(s)")]
    [InlineData(1, "Searching bootorder")]
    public void A_machine_that_was_saved_goes_on_in_another_process(int cpus, string savedAt)
    {
        using var first = new SoftwareMachine(cpus);
        first.RunUntil(savedAt);
        StateNode state = new();
        first.OnLoop(() => state = StateNode.Save(first.Machine.Exchange));

        using var second = new SoftwareMachine(cpus);
        second.OnLoop(() =>
        {
            foreach (var (mine, theirs) in second.Machine.RamBlocks.Zip(first.Machine.RamBlocks))
                theirs.Span(0, (int)theirs.Size).CopyTo(mine.Span(0, (int)mine.Size));
            state.Load(second.Machine.Exchange);
        });
        string again = "";
        second.OnLoop(() => again = StateNode.Save(second.Machine.Exchange).ToString());
        Assert.Equal(WithoutTime(state.ToString()), WithoutTime(again));
        Assert.DoesNotContain("No bootable device", first.Messages);
        second.RunUntil("No bootable device");
    }

    [Theory, InlineData(1), InlineData(2)]
    public void A_software_CPU_keeps_its_state(int seed)
    {
        using var machineOfUsed = new TcgAccelerator();
        using var machineOfLoaded = new TcgAccelerator();
        IVCpu used = Make(machineOfUsed), loaded = Make(machineOfLoaded);
        string fresh = Save(used);
        used.Exchange(new RandomState(new Random(seed)));
        Assert.NotEqual(fresh, Save(used));

        StateNode.Save(used.Exchange).Load(loaded.Exchange);
        Assert.Equal(Save(used), Save(loaded));
        Assert.Equal(WithoutTime(used.DumpRegisters()), WithoutTime(loaded.DumpRegisters()));

        used.Reset();
        Assert.Equal(fresh, Save(used));
    }

    static IVCpu Make(TcgAccelerator accelerator)
    {
        var machineLock = new MachineLock();
        accelerator.Attach(Empty("memory", 1UL << 40), Empty("ports", 0x10000), machineLock, Empty("smm", 1UL << 40));
        return accelerator.CreateVCpu(0, new CpuSetup("max", [], 0, 1, 1, 1));

        AddressSpace Empty(string name, ulong size) => new(name, MemoryRegion.Container(name, size), machineLock);
    }

    static string Save(IVCpu cpu) => WithoutTime(StateNode.Save(cpu.Exchange).ToString());

    /// <summary>The time stamp counter runs on.</summary>
    static string WithoutTime(string state) =>
        string.Join('\n', state.Split('\n').Where(line => !line.Contains("tsc =", StringComparison.Ordinal)));

    /// <summary>Loads what never was saved: random numbers wherever a processor takes any, another value than before
    /// elsewhere.</summary>
    sealed partial class RandomState(Random random) : StateStream
    {
        const int Mxcsr = 24;
        const uint MxcsrMask = 0xFFFF, Arithmetic = 0x8D5, Fixed = 2;
        static readonly string[] Kept = ["cr0", "cr4", "efer", "da0", "tsc", "apic-base"];

        public override bool IsLoading => true;
        public override StateStream Group(string name, int index) => this;
        public override void Blob(string name, ref byte[] data, int limit) => random.NextBytes(data);

        public override void Field(string name, ref ulong value)
        {
            if (name == "rflags") value = (uint)random.Next() & Arithmetic | Fixed;
            else if (name == "xcr0") value = 7;
            else if (Anything().IsMatch(name)) value = (ulong)random.NextInt64();
            else if (!Kept.Contains(name)) value ^= 1;
        }

        public override void Block(string name, Span<byte> data)
        {
            random.NextBytes(data);
            BinaryPrimitives.WriteUInt32LittleEndian(data[Mxcsr..], (uint)random.Next() & MxcsrMask);
        }

        [GeneratedRegex(@"^(r[a-d]x|r[sb]p|r[sd]i|r\d+|rip|cr2|(?!sm).*base|.*star|(mtrr|mc|amd)-\S*)$")]
        private static partial Regex Anything();
    }
}
