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
    const int EIntr = 4, EAgain = 11;
    const int TscTolerance = 4000;                                 // 250 millionths, as NTP steers clocks

    readonly int _fd;
    readonly KvmRun* _run;
    readonly nuint _runSize;
    readonly AddressSpace _memory, _ports;
    readonly AddressSpace? _smm;
    readonly KvmMemory _slots;
    readonly StateNode _powerOn;
    readonly bool _hasHyperV;
    int _kicked;                                                   // not migrated: a request to the thread, not state
    int _thread;                                                   // not migrated: who is inside Run, 0 for nobody

    public KvmVCpu(int device, int machine, int index, int apicId, CpuidLeaf[] cpuid, AddressSpace memory,
        AddressSpace ports, KvmMemory slots, AddressSpace? smm, HyperV hyperV, KvmInterrupts interrupts,
        ulong timeStampHertz = 0)
    {
        KickSignal.Prepare();
        (Index, _memory, _ports, _slots, _smm, _hasHyperV) = (index, memory, ports, slots, smm, hyperV.IsOn);
        _interrupts = interrupts;
        _fd = KvmApi.Call(machine, KvmApi.CreateVCpu, apicId, $"cannot create vCPU {index}");
        _runSize = (nuint)KvmApi.Call(device, KvmApi.GetVCpuMmapSize, 0, "cannot size the vCPU's page");
        void* mapped = Libc.mmap(null, _runSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, _fd, 0);
        if (mapped == (void*)-1) throw new HostException($"-accel kvm: cannot map vCPU {index}", Libc.Errno);
        _run = (KvmRun*)mapped;
        if (timeStampHertz != 0) SetTimeStampFrequency(timeStampHertz / 1000);
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
        if (HasOwnApic)
        {
            (_sleep, _apicBase) = (index == 0 ? Sleep.None : Sleep.UntilStartUp, FirstApicBase);
            _first = ReadRegisters();
        }
        _wasHalted = AsksKernelIsHalted();
        _powerOn = StateNode.Save(Exchange);
        _statistics = KvmStatistics.Of(_fd);
    }

    /// <summary>KVM_SET_TSC_KHZ: the guest's time stamp counter is scaled, where the processor can.</summary>
    /// <exception cref="ConfigurationException">It cannot.</exception>
    void SetTimeStampFrequency(ulong kilohertz)
    {
        if (Libc.ioctl(_fd, KvmApi.SetTscKhz, (nint)kilohertz) >= 0) return;
        int host = Libc.ioctl(_fd, KvmApi.GetTscKhz, 0);
        if (host > 0 && Math.Abs((long)kilohertz - host) <= host / TscTolerance) return;
        throw new ConfigurationException($"-cpu tsc-frequency={kilohertz * 1000}: TSC frequency mismatch between VM "
            + $"({kilohertz} kHz) and host ({host} kHz), and TSC scaling unavailable; leave it out");
    }

    public int Index { get; }
    public KvmExits Exits { get; } = new();
    public ulong ProcessorId { get; }
    public ulong TimeStampHertz { get; }
    public ulong TimeStampCounter => KvmMsrs.Read(_fd, KvmMsrs.TimeStampCounter);
    public ulong InstructionPointer => Get<KvmRegs>(KvmApi.GetRegs).Rip;

    /// <summary>While it runs the kernel alone knows; then it counts as not halted.</summary>
    // Nobody may ask the kernel from another thread: that would wait until it is out of KVM_RUN.
    public bool IsHalted => HasOwnApic ? _sleep != Sleep.None
        : Volatile.Read(ref _thread) == 0 && Volatile.Read(ref _wasHalted);

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
            Volatile.Write(ref _wasHalted, AsksKernelIsHalted());
            Volatile.Write(ref _thread, 0);
        }
    }

    VCpuExit RunLoop()
    {
        while (true)
        {
            _run->ImmediateExit = 0;
            if (Interlocked.Exchange(ref _kicked, 0) != 0) return new VCpuExit(ExitReason.Kicked);
            TakeSignals();
            if (IsAsleep())
            {
                _wake.WaitOne();
                continue;
            }
            OfferInterrupts();
            uint changes = _slots.Changes;
            if (Libc.ioctl(_fd, KvmApi.Run, 0) < 0)
            {
                int errno = Libc.Errno;
                _lateWrites?.Settle();
                Settle();
                if (errno is EIntr or EAgain) continue;
                return Fail($"error: kvm run failed {Libc.Message(errno)}");
            }
            _lateWrites?.Settle();
            Settle();
            Exits.Count(_run->ExitReason);
            switch (_run->ExitReason)
            {
                case KvmRun.ExitIo: Io(); break;
                case KvmRun.ExitMmio: Mmio(); break;
                case KvmRun.ExitInterrupted or KvmRun.ExitIrqWindow or KvmRun.ExitSetTpr: break;
                case KvmRun.ExitHlt:
                    if (!IsWokenByKernel()) _sleep = Sleep.UntilInterrupt;
                    break;
                case KvmRun.ExitIoApicEoi: _interrupts.End(_run->EoiVector); break;
                case KvmRun.ExitShutdown: return new VCpuExit(ExitReason.Shutdown);
                case KvmRun.ExitDebug:
                    if (TakeDebugExit() is { } exit) return exit;
                    break;
                case KvmRun.ExitSystemEvent: return new VCpuExit(ExitReason.Shutdown);
                case KvmRun.ExitHyperV:                            // SynIC's pages: nothing of ours lies there
                    _run->RefuseHypercall();
                    break;
                case KvmRun.ExitReadMsr: ReadMsr(); break;
                case KvmRun.ExitInternalError when HaveSlotsChanged(changes): break;
                default: return Fail(KvmFailure.Explain(_run));
            }
        }
    }

    /// <summary>Since then, or just now: afterwards all is there again.</summary>
    bool HaveSlotsChanged(uint since)
    {
        if (_run->SubError != KvmFailure.EmulationFailed || (since & 1) == 0 && _slots.Changes == since) return false;
        _interrupts.Lock!.Hold().Dispose();                        // whoever changes them holds it
        return true;
    }

    /// <summary>With the registers and the code at the instruction pointer, as QEMU tells.</summary>
    VCpuExit Fail(string why) => new(ExitReason.Failed, $"{why}\n{KvmFailure.Describe(this, _memory)}");

    // The request must be seen before _thread is read, and ImmediateExit set before a signal comes: whoever is about to
    // enter the kernel finds one of the three.
    public void Kick()
    {
        Interlocked.Exchange(ref _kicked, 1);
        LeaveKernel();
    }

    void LeaveKernel()
    {
        _run->ImmediateExit = 1;
        Interlocked.MemoryBarrier();
        int thread = Volatile.Read(ref _thread);
        if (thread != 0) KickSignal.Send(thread);
        _wake.Set();
    }

    public void Dispose()
    {
        Libc.munmap(_run, _runSize);
        Libc.close(_fd);
        _wake.Dispose();
        _statistics?.Dispose();
    }
}
