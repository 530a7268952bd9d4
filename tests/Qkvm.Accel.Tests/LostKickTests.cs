using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>Two processors that sleep or spin are interrupted, paused, reset, unplugged and plugged again in turns.
/// What is lost shows as something that never comes.</summary>
public sealed class LostKickTests : IDisposable
{
    const int Rounds = 60, Cpus = 2;
    const byte Vector = 0x20, StartPage = 2;
    const ulong RamSize = 1 << 20, HandlerAt = 0x700, CodeAt = StartPage << 12;

    readonly MachineLock _lock = new();
    readonly GuestRam _ram = new("ram", RamSize);
    readonly SemaphoreSlim[] _handled = [new(0), new(0)];
    readonly Pending[] _apics = [new(), new()];
    readonly AddressSpace _memory, _ports;

    public LostKickTests()
    {
        var root = MemoryRegion.Container("memory", 1UL << 40);
        var io = MemoryRegion.Container("io", 1 << 16);
        root.Map(0, MemoryRegion.OfRam("ram", _ram, 0, RamSize));
        root.Map(0xFFFF0000, MemoryRegion.OfRam("reset", _ram, 0xF0000, 0x10000));
        io.Map(0x0F, MemoryRegion.Io("handled", 1, new Handled(_handled), AccessSizes.ByteOnly));
        (_memory, _ports) = (new AddressSpace("memory", root, _lock), new AddressSpace("io", io, _lock));
        Put(0xFFFF0, "EA00000002");                                // jmp 0200:0000
        Put(HandlerAt, "E60FCF");                                  // out 0Fh,al; iret
        BitConverter.GetBytes((uint)HandlerAt).CopyTo(_ram.Span(Vector * 4, 4));
    }

    public void Dispose() => _ram.Dispose();

    [Theory]
    [InlineData("FBF4EBFD")]                                       // sti; hlt; jmp to hlt
    [InlineData("FBEBFE")]                                         // sti; jmp to itself
    public void The_software_cpu_loses_nothing(string code) => Shake(new TcgAccelerator(), code);

    [KvmFact]
    public void Kvm_loses_nothing_of_processors_that_sleep() => Shake(OwnApics(), "FBF4EBFD");

    [KvmFact]
    public void Kvm_loses_nothing_of_processors_that_spin() => Shake(OwnApics(), "FBEBFE");

    static KvmAccelerator OwnApics() => new(KernelIrqChip.Off, Cpus);

    void Shake(IAccelerator accelerator, string code)
    {
        using IAccelerator owned = accelerator;
        Put(CodeAt, code);
        accelerator.Attach(_memory, _ports, _lock);
        IVCpu[] cpus = [.. Enumerable.Range(0, Cpus).Select(index =>
        {
            IVCpu cpu = accelerator.CreateVCpu(index, new CpuSetup("max", [], index, 1, Cpus, 1));
            cpu.Apic = _apics[index];
            cpu.Reset();
            return cpu;
        })];
        var exits = new List<VCpuExit>();
        var runner = new VCpuRunner(cpus, _lock, (_, exit) => { lock (exits) exits.Add(exit); });
        Start(cpus[1]);
        for (int round = 0; round < Rounds; round++)
        {
            runner.Resume();
            for (int i = 0; i < Cpus; i++)
            {
                _apics[i].Pend();
                cpus[i].InterruptPending();
                if (round % 3 == 0) cpus[i].Kick();
            }
            for (int i = 0; i < Cpus; i++)
                Assert.True(_handled[i].Wait(ModeGuest.Patience), $"round {round}: CPU {i} lost an interrupt");
            Assert.True(Task.Run(runner.Pause).Wait(ModeGuest.Patience), $"round {round}: a pause was lost");
            if (round % 5 == 0)
            {
                foreach (IVCpu cpu in cpus) cpu.Reset();
                Start(cpus[1]);
            }
            if (round % 7 != 0) continue;
            Assert.True(Task.Run(() => runner.Remove(cpus[1])).Wait(ModeGuest.Patience), "unplugging hangs");
            runner.Add(cpus[1]);
        }
        Assert.True(Task.Run(runner.Dispose).Wait(ModeGuest.Patience));
        Assert.Empty(exits);
    }

    static void Start(IVCpu cpu)
    {
        cpu.Signal(CpuSignal.Init);
        cpu.Signal(CpuSignal.StartUp, StartPage);
    }

    void Put(ulong at, string hex) => Convert.FromHexString(hex).CopyTo(_ram.Span(at, hex.Length / 2));

    sealed class Handled(SemaphoreSlim[] handled) : IRegisterBank
    {
        public ulong Read(ulong offset, int size) => 0;
        public void Write(ulong offset, int size, ulong value) => handled[VCpuRunner.Current].Release();
    }

    sealed class Pending : FakeApic
    {
        int _pending;

        public override bool HasInterrupt => Volatile.Read(ref _pending) > 0;
        public void Pend() => Interlocked.Increment(ref _pending);

        public override int Acknowledge()
        {
            Interlocked.Decrement(ref _pending);
            return Vector;
        }
    }
}
