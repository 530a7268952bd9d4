using Qkvm.Accel.Kvm;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Host;
using Qkvm.Testing;

namespace Qkvm.Accel.Tests;

/// <summary>A test that needs a usable /dev/kvm.</summary>
public sealed class KvmFactAttribute : ConditionalFactAttribute
{
    public KvmFactAttribute() : base(WhyNot()) { }

    static string? WhyNot()
    {
        int fd = Libc.open(KvmDevice.Path, Libc.ORdWr, 0);
        if (fd < 0) return KvmDevice.Explain(Libc.Errno);
        Libc.close(fd);
        return null;
    }
}

/// <summary>Real-mode programs on the real kernel interface.</summary>
public sealed partial class KvmTests : IDisposable
{
    const ulong RamSize = 1 << 20;

    readonly MachineLock _lock = new();
    readonly GuestRam _ram = new("ram", RamSize);
    readonly MemoryRegion _root = MemoryRegion.Container("memory", 1UL << 40),
        _io = MemoryRegion.Container("io", 1 << 16);
    readonly Recorder _port = new(), _registers = new(), _end = new();
    readonly AddressSpace _memory, _ports;

    public KvmTests()
    {
        _memory = new AddressSpace("memory", _root, _lock);
        _ports = new AddressSpace("io", _io, _lock);
        _root.Map(0, MemoryRegion.OfRam("ram", _ram, 0, RamSize));
        // The reset vector is in the last 64 KiB below 4 GiB: the same RAM shows there.
        _root.Map(0xFFFF0000, MemoryRegion.OfRam("reset", _ram, 0xF0000, 0x10000));
        _root.Map(0x200000, MemoryRegion.Io("registers", 0x1000, _registers, AccessSizes.UpToDword));
        _ports.Map(0x0F, MemoryRegion.Io("end", 1, _end, AccessSizes.ByteOnly));
        _ports.Map(0x500, MemoryRegion.Io("port", 4, _port, AccessSizes.UpToDword));
    }

    public void Dispose() => _ram.Dispose();

    [KvmFact]
    public void Ports_are_read_and_written_in_all_sizes()
    {
        _port.Value = 0x12345678;
        // mov dx,500h; in eax,dx; out dx,eax; in ax,dx; out dx,ax; in al,dx; out dx,al; the end: out 0Fh,al
        Run("BA 00 05 66 ED 66 EF ED EF EC EE B0 00 E6 0F");
        Assert.Equal(["w4@0=12345678", "w2@0=5678", "w1@0=78"], _port.Writes);
    }

    [KvmFact]
    public void String_output_arrives_element_by_element()
    {
        "abcd"u8.CopyTo(_ram.Span(0x1000, 4));
        // mov dx,500h; mov si,1000h; mov cx,4; cld; rep outsb; the end: out 0Fh,al
        Run("BA 00 05 BE 00 10 B9 04 00 FC F3 6E B0 00 E6 0F");
        Assert.Equal(["w1@0=61", "w1@0=62", "w1@0=63", "w1@0=64"], _port.Writes);
    }

    [KvmFact]
    public void Memory_of_devices_is_reached_through_their_registers()
    {
        // Unreal mode is not needed: ds = FFFFh reaches 10FFEFh; the device is aliased there.
        _root.Map(0x100000, MemoryRegion.Io("low", 0x1000, _registers, AccessSizes.UpToDword));
        _registers.Value = 0xCAFE;
        // mov ax,FFFFh; mov ds,ax; mov bx,[10h]; mov [14h],bx; the end: out 0Fh,al
        Run("B8 FF FF 8E D8 8B 1E 10 00 89 1E 14 00 B0 00 E6 0F");
        Assert.Equal(["w2@4=cafe"], _registers.Writes);
    }

    [KvmFact]
    public void Reset_brings_power_on_values_back_and_state_survives_a_round_trip()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        string fresh = StateNode.Save(cpu.Exchange).ToString();
        Execute(cpu, "BB 34 12 B0 00 E6 0F");                               // mov bx,1234h; the end: out 0Fh,al
        Assert.Contains("EBX=00001234", cpu.DumpRegisters());
        StateNode saved = StateNode.Save(cpu.Exchange);
        cpu.Reset();
        Assert.Equal(Without(fresh), Without(StateNode.Save(cpu.Exchange).ToString()));
        saved.Load(cpu.Exchange);
        Assert.Contains("EBX=00001234", cpu.DumpRegisters());

        // Clocks go on while the vCPU stands.
        static string Without(string state) =>
            string.Join('\n', state.Split('\n')
            .Where(l => !l.StartsWith("registers.tsc") && !l.StartsWith("registers.msr.4b56")
            && !l.StartsWith("kvm.lapic")));
    }

    [KvmFact]
    public void Pages_that_the_guest_wrote_are_logged_once()
    {
        using var kvm = new KvmAccelerator();
        IVCpu cpu = Create(kvm);
        using var log = new DirtyLog([_ram], kvm);
        Execute(cpu, "A2 34 12 A2 00 50 B0 00 E6 0F");             // mov [1234h],al; mov [5000h],al; out 0Fh,al
        Assert.Equal([1UL, 5UL], Collected().Where(page => page < 0xF0));
        Assert.Empty(Collected());
        cpu.Reset();
        Execute(cpu, "A2 00 70 B0 00 E6 0F");
        _root.Map(0x80000, MemoryRegion.Io("hole", 0x1000, _registers, AccessSizes.UpToDword), 1); // new slots
        Assert.Equal([7UL], Collected().Where(page => page < 0xF0));

        List<ulong> Collected()
        {
            var pages = new List<ulong>();
            log.Collect((_, page) => pages.Add(page));
            return pages;
        }
    }

    void Run(string code)
    {
        using var kvm = new KvmAccelerator();
        Execute(Create(kvm), code);
    }

    IVCpu Create(KvmAccelerator kvm)
    {
        kvm.Attach(_memory, _ports, _lock);
        return kvm.CreateVCpu(0, new CpuSetup("host", [], 0, 1, 1, 1));
    }

    /// <summary>Runs at F000:0000 until the guest writes to port 0Fh.</summary>
    void Execute(IVCpu cpu, string code)
    {
        Place(code);
        _end.OnWrite = cpu.Kick;
        Assert.Equal(ExitReason.Kicked, cpu.Run().Reason);
    }

    void Place(string code)
    {
        byte[] bytes = Convert.FromHexString(code.Replace(" ", ""));
        bytes.CopyTo(_ram.Span(0xF0000, bytes.Length));
        Convert.FromHexString("EA000000F0").CopyTo(_ram.Span(0xFFFF0, 5)); // jmp F000:0000
    }

    sealed class Recorder : IRegisterBank
    {
        public ulong Value { get; set; }
        public List<string> Writes { get; } = [];
        public Action OnWrite { get; set; } = () => { };
        public ulong Read(ulong offset, int size) => Value;
        public void Write(ulong offset, int size, ulong value)
        {
            Writes.Add($"w{size}@{offset:x}={value:x}");
            OnWrite();
        }
    }
}
