using Iced.Intel;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Accel.Tests;

/// <summary>A machine of RAM, one register bank at <see cref="Registers"/> and vCPUs, driven through the
/// accelerator.</summary>
sealed unsafe class GuestMachine : IDisposable
{
    public const ulong Registers = 0xF0000000, Rom = 0xF8000000, Tables = 0x100000;

    public readonly GuestRam Ram = new("ram", 8 << 20);
    readonly GuestRam _rom = new("rom", 0x10000);
    readonly TcgAccelerator _accelerator = new();

    public GuestMachine(int cpus = 1, string model = "max", params (string, bool)[] features)
        : this(cpus, 0, model, features) { }

    /// <summary>One vCPU of the usual model that CPUID calls another maker's.</summary>
    public GuestMachine(string vendor, params (string, bool)[] features)
        : this(1, 0, "max", features, [new OptionPair("vendor", vendor)]) { }

    /// <param name="codeCache">Bytes for translations; 0: as many as usual.</param>
    public GuestMachine(int cpus, long codeCache, string model = "max", params (string, bool)[] features)
        : this(cpus, codeCache, model, features, []) { }

    GuestMachine(int cpus, long codeCache, string model, (string, bool)[] features, OptionPair[] properties)
    {
        if (codeCache != 0) _accelerator.CodeCacheLimit = codeCache;
        var root = MemoryRegion.Container("memory", 1UL << 40);
        var ports = MemoryRegion.Container("ports", 0x10000);
        root.Map(0, MemoryRegion.OfRam("ram", Ram, 0, Ram.Size));
        root.Map(Registers, MemoryRegion.Io("registers", 0x1000, Bank, AccessSizes.UpToQword));
        root.Map(Rom, MemoryRegion.Rom("rom", _rom, 0, _rom.Size));
        ports.Map(0, MemoryRegion.Io("ports", 0x10000, Ports, AccessSizes.UpToDword));
        Root = root;
        var machineLock = new MachineLock();
        Memory = new AddressSpace("memory", root, machineLock);
        _accelerator.Attach(Memory, new AddressSpace("io", ports, machineLock), machineLock);
        var setup = new CpuSetup(model, Features(model, features), 0, 1, cpus, 1) { Properties = properties };
        VCpus = [.. Enumerable.Range(0, cpus).Select(i => _accelerator.CreateVCpu(i, setup with { ApicId = i }))];
    }

    /// <summary>"max" with all that is our own, on whatever host.</summary>
    public static KeyValuePair<string, bool>[] Features(string model, (string Name, bool On)[] features) =>
        [.. (model == "max" ? CpuFeatures.Copied.Split(' ') : []).Select(name => KeyValuePair.Create(name, true)),
            .. features.Select(f => KeyValuePair.Create(f.Name, f.On))];

    public MemoryRegion Root { get; }
    public AddressSpace Memory { get; }
    public IVCpu[] VCpus { get; }
    public RegisterLog Bank { get; } = new();
    public RegisterLog Ports { get; } = new();
    public IVCpu VCpu => VCpus[0];
    public Cpu Cpu => ((SoftwareVCpu)VCpu).Cpu;
    public CpuState* S => Cpu.State;

    /// <summary>Flat code and data segments of this width, at a privilege; no paging.</summary>
    public GuestMachine Flat(int bits, int cpl = 0, int index = 0)
    {
        Cpu cpu = ((SoftwareVCpu)VCpus[index]).Cpu;
        CpuState* s = cpu.State;
        ushort level = (ushort)(cpl << 5), size = bits switch { 16 => 0, 32 => Segment.Big, _ => Segment.Long };
        s->Cr0 = Cr0.Pe | Cr0.Et;
        s->Cs = new Segment { Selector = 8, Limit = uint.MaxValue, Access = (ushort)(0x8000 | size | 0x9B | level) };
        for (int i = 0; i < Seg.Count; i++)
            if (i != Seg.Cs)
                s->Segment(i) = new Segment { Selector = 16, Limit = uint.MaxValue, Access = (ushort)(0xC093 | level) };
        s->Cpl = cpl;
        s->WaitForSipi = 0;
        if (bits == 64) Paging(PagingMode.FourLevels, index);
        cpu.ModeChanged();
        return this;
    }

    /// <summary>Switches paging on; tables at <see cref="Tables"/>, empty, or for the first CPU in long mode all of RAM
    /// one to one.</summary>
    public void Paging(PagingMode mode, int index = 0)
    {
        Cpu cpu = ((SoftwareVCpu)VCpus[index]).Cpu;
        CpuState* s = cpu.State;
        s->Cr4 |= mode == PagingMode.Legacy ? Cr4.Pse : Cr4.Pae | (mode == PagingMode.FiveLevels ? Cr4.La57 : 0);
        s->Efer = (mode >= PagingMode.FourLevels ? Efer.Lme | Efer.Lma : 0) | (mode == PagingMode.Legacy ? 0 : Efer.Nx);
        s->Cr3 = Tables;
        s->Cr0 |= Cr0.Pg | Cr0.Wp;
        if (mode == PagingMode.FourLevels && Memory.Read(Tables, 8) == 0)
        {
            Memory.Write(Tables, 8, Tables + 0x1000 | 7);
            Memory.Write(Tables + 0x1000, 8, Tables + 0x2000 | 7);
            for (uint i = 0; i < 4; i++) Memory.Write(Tables + 0x2000 + i * 8, 8, i << 21 | 0x87);
        }
        cpu.ModeChanged();
    }

    /// <summary>Assembles at an address (below 4 GiB).</summary>
    public byte[] Place(ulong at, int bits, Action<Assembler> program)
    {
        var assembler = new Assembler(bits);
        program(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), at);
        byte[] code = stream.ToArray();
        Memory.Write(at, code);
        return code;
    }

    /// <summary>Runs from RIP until HLT stops it; fails if it takes so long that something hangs.</summary>
    /// <param name="masked">Halts that an interrupt may end do not count.</param>
    public void RunToHalt(ulong rip, int index = 0, int seconds = 60, bool masked = false)
    {
        IVCpu vcpu = VCpus[index];
        CpuState* state = ((SoftwareVCpu)vcpu).Cpu.State;
        state->Rip = rip;
        bool IsMasked() => !masked || (Volatile.Read(ref state->RflagsSystem) & Rflags.If) == 0;
        VCpuExit exit = default;
        var thread = new Thread(() => exit = vcpu.Run());
        thread.Start();
        for (int i = 0; i < seconds * 1000 && !(IsMasked() && vcpu.IsHalted && IsMasked()) && thread.IsAlive; i++)
            Thread.Sleep(1);
        vcpu.Kick();
        thread.Join();
        Assert.Equal(new VCpuExit(ExitReason.Kicked), exit);
        Assert.True(vcpu.IsHalted, $"no HLT\n{vcpu.DumpRegisters()}");
        ((SoftwareVCpu)vcpu).Cpu.State->Halted = 0;
    }

    /// <summary>What a debugger wants; a list of its own each time.</summary>
    public void StopAt(params DebugPoint[] points) => _accelerator.StopAt(points, VCpu);

    public void Dispose()
    {
        _accelerator.Dispose();
        Ram.Dispose();
        _rom.Dispose();
    }
}

public enum PagingMode { Legacy, Pae, FourLevels, FiveLevels }

/// <summary>Registers that read as what was set and remember writes.</summary>
sealed class RegisterLog : IRegisterBank
{
    public List<(ulong Offset, int Size, ulong Value)> Writes { get; } = [];
    public ulong Value { get; set; }
    public Action<ulong>? OnWrite { get; set; }

    public ulong Read(ulong offset, int size) => Value;

    public void Write(ulong offset, int size, ulong value)
    {
        Writes.Add((offset, size, value));
        OnWrite?.Invoke(value);
    }
}
