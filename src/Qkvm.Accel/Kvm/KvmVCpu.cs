using System.Diagnostics;
using System.Runtime.InteropServices;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: kvm_run is mapped as long as the vCPU lives; offsets that the kernel gives lie within its mapping.
/// <summary>A vCPU of the kernel. It sleeps in HLT, takes interrupts and answers INIT and SIPI by itself.</summary>
sealed unsafe partial class KvmVCpu : IVCpu, IDisposable
{
    const int EIntr = 4, EAgain = 11, EFault = 14;

    readonly int _fd;
    readonly KvmRun* _run;
    readonly nuint _runSize;
    readonly AddressSpace _memory, _ports;
    readonly AddressSpace? _smm;
    readonly KvmMemory _slots;
    readonly StateNode _powerOn;
    readonly bool _hasHyperV;
    int _kicked;                                                   // not migrated: a request to the thread, not state
    int _smi;                                                      // not migrated: the kernel has it before it runs
    int _thread;                                                   // not migrated: who is inside Run, 0 for nobody

    public KvmVCpu(int device, int machine, int index, int apicId, CpuidLeaf[] cpuid, AddressSpace memory,
        AddressSpace ports, KvmMemory slots, AddressSpace? smm, HyperV hyperV)
    {
        KickSignal.Prepare();
        (Index, _memory, _ports, _slots, _smm, _hasHyperV) = (index, memory, ports, slots, smm, hyperV.IsOn);
        _fd = KvmApi.Call(machine, KvmApi.CreateVCpu, apicId, $"cannot create vCPU {index}");
        _runSize = (nuint)KvmApi.Call(device, KvmApi.GetVCpuMmapSize, 0, "cannot size the vCPU's page");
        void* mapped = Libc.mmap(null, _runSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, _fd, 0);
        if (mapped == (void*)-1) throw new HostException($"-accel kvm: cannot map vCPU {index}", Libc.Errno);
        _run = (KvmRun*)mapped;
        CpuidResult features = cpuid.First(leaf => leaf.Function == 1).Result;
        ProcessorId = features.Eax | (ulong)features.Edx << 32;
        byte* leaves = KvmCpuid.Write(cpuid);
        KvmApi.Call(_fd, KvmApi.SetCpuid2, leaves, "cannot set CPUID");
        NativeMemory.Free(leaves);
        if (hyperV.Has(HyperVFeatures.SynIc))
        {
            var synIc = new KvmCapability { Capability = KvmApi.ExtensionHyperVSynIc2 };
            KvmApi.Call(_fd, KvmApi.EnableCapability, &synIc, "cannot switch Hyper-V's SynIC on");
        }
        int kilohertz = Libc.ioctl(_fd, KvmApi.GetTscKhz, 0);
        TimeStampHertz = kilohertz > 0 ? (ulong)kilohertz * 1000 : (ulong)Stopwatch.Frequency;
        _powerOn = StateNode.Save(Exchange);
    }

    public int Index { get; }
    public ulong ProcessorId { get; }
    public ILocalApic? Apic { get; set; }
    public ulong TimeStampHertz { get; }
    public ulong TimeStampCounter => KvmMsrs.Read(_fd, KvmMsrs.TimeStampCounter);
    public ulong InstructionPointer => Get<KvmRegs>(KvmApi.GetRegs).Rip;

    /// <summary>While it runs the kernel alone knows; then it counts as not halted.</summary>
    // uninitialized, halted
    public bool IsHalted => Volatile.Read(ref _thread) == 0 && Get<uint>(KvmApi.GetMpState) is 1 or 3;

    public VCpuExit Run()
    {
        Volatile.Write(ref _thread, Libc.gettid());
        try
        {
            BeginDebug();
            return RunLoop();
        }
        finally
        {
            EndPassing();
            Volatile.Write(ref _thread, 0);
        }
    }

    VCpuExit RunLoop()
    {
        while (true)
        {
            _run->ImmediateExit = 0;
            if (Interlocked.Exchange(ref _kicked, 0) != 0) return new VCpuExit(ExitReason.Kicked);
            if (Interlocked.Exchange(ref _smi, 0) != 0) KvmApi.Call(_fd, KvmApi.Smi, 0, "cannot inject an SMI");
            if (Libc.ioctl(_fd, KvmApi.Run, 0) < 0)
            {
                int errno = Libc.Errno;
                if (errno is EIntr or EAgain) continue;
                return new VCpuExit(ExitReason.Failed, $"KVM_RUN: {Libc.Message(errno)}");
            }
            switch (_run->ExitReason)
            {
                case KvmRun.ExitIo: Io(); break;
                case KvmRun.ExitMmio: Mmio(); break;
                case KvmRun.ExitInterrupted or KvmRun.ExitIrqWindow or KvmRun.ExitHlt: break;
                case KvmRun.ExitShutdown: return new VCpuExit(ExitReason.Shutdown);
                case KvmRun.ExitDebug:
                    if (TakeDebugExit() is { } exit) return exit;
                    break;
                case KvmRun.ExitSystemEvent: return new VCpuExit(ExitReason.Shutdown);
                case KvmRun.ExitHyperV:                            // SynIC's pages: nothing of ours lies there
                    _run->RefuseHypercall();
                    break;
                case KvmRun.ExitFailEntry:
                    return new VCpuExit(ExitReason.Failed, "the processor refused the guest's state (reason " +
                        $"{_run->HardwareReason:x})");
                case KvmRun.ExitInternalError:
                    return new VCpuExit(ExitReason.Failed, $"KVM internal error, suberror {_run->SubError} (1: an " +
                        "instruction it cannot emulate)");
                default: return new VCpuExit(ExitReason.Failed, $"KVM exit {_run->ExitReason}");
            }
        }
    }

    public void Kick()
    {
        Volatile.Write(ref _kicked, 1);
        LeaveKernel();
    }

    void LeaveKernel()
    {
        _run->ImmediateExit = 1;
        int thread = Volatile.Read(ref _thread);
        if (thread != 0) KickSignal.Send(thread);
    }

    public void InterruptPending() { }                             // the kernel's local APIC knows by itself

    public void Signal(CpuSignal signal, byte vector = 0)
    {
        if (signal == CpuSignal.Nmi) KvmApi.Call(_fd, KvmApi.Nmi, 0, "cannot inject an NMI");
        if (signal != CpuSignal.Smi || _smm == null) return;
        Volatile.Write(ref _smi, 1);                               // its own thread does it, as the kernel wants
        LeaveKernel();
    }

    public void Reset() => _powerOn.Load(Exchange);

    public void Exchange(StateStream state)
    {
        CpuRegisters registers = ReadRegisters();
        registers.Exchange(state.Section("registers"));
        if (state.IsLoading) WriteRegisters(registers);
        StateStream kernel = state.Section("kvm");
        Block(kernel, "lapic", KvmApi.GetLapic, KvmApi.SetLapic, 1024);
        Block(kernel, "events", KvmApi.GetVCpuEvents, KvmApi.SetVCpuEvents, 64);
        Block<uint>(kernel, "mp-state", KvmApi.GetMpState, KvmApi.SetMpState);
    }

    public CpuRegisters ReadRegisters() => KvmRegisters.Read(_fd, _hasHyperV);
    public void WriteRegisters(CpuRegisters registers) => KvmRegisters.Write(_fd, registers, _hasHyperV);

    public bool TryTranslate(ulong linear, out ulong physical)
    {
        var translation = new KvmTranslation { LinearAddress = linear };
        KvmApi.Call(_fd, KvmApi.Translate, &translation, "cannot translate an address");
        physical = translation.PhysicalAddress;
        return translation.Valid != 0;
    }

    public void Dispose()
    {
        Libc.munmap(_run, _runSize);
        Libc.close(_fd);
    }

    void Io()
    {
        byte* data = (byte*)_run + _run->IoDataOffset;
        int size = _run->IoSize;
        for (uint i = 0; i < _run->IoCount; i++, data += size)
        {
            if (_run->IoDirection != 0) _ports.Write(_run->IoPort, size, Load(data, size));
            else Store(data, size, _ports.Read(_run->IoPort, size));
        }
    }

    void Mmio()
    {
        int size = (int)Math.Min(_run->MmioLength, 8);
        bool isSmm = _smm != null && (_run->Flags & KvmRun.InSmm) != 0;
        AddressSpace memory = isSmm ? _smm! : _memory;
        ulong address = isSmm ? _run->MmioAddress : _slots.Masked(_run->MmioAddress);
        if (_run->MmioIsWrite != 0) memory.Write(address, size, Load(_run->MmioData, size));
        else Store(_run->MmioData, size, memory.Read(address, size));
    }

    static ulong Load(byte* data, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++) value |= (ulong)data[i] << (i * 8);
        return value;
    }

    static void Store(byte* data, int size, ulong value)
    {
        for (int i = 0; i < size; i++) data[i] = (byte)(value >> (i * 8));
    }

    T Get<T>(uint request) where T : unmanaged
    {
        T value = default;
        KvmApi.Call(_fd, request, &value, "cannot read a vCPU");
        return value;
    }

    void Block<T>(StateStream state, string name, uint get, uint set) where T
        : unmanaged => Block(state, name, get, set, sizeof(T));

    void Block(StateStream state, string name, uint get, uint set, int size)
    {
        byte* block = stackalloc byte[size];
        KvmApi.Call(_fd, get, block, $"cannot read {name} of a vCPU");
        state.Block(name, new Span<byte>(block, size));
        if (state.IsLoading) KvmApi.Call(_fd, set, block, $"cannot write {name} of a vCPU");
    }
}
