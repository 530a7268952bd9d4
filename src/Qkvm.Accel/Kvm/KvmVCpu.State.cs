using Qkvm.Core.Accel;
using Qkvm.Core.State;
using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: structures lie on the stack for the time of the call.
/// <remarks>Its registers, for states, resets and people.</remarks>
sealed unsafe partial class KvmVCpu
{
    readonly KvmStatistics? _statistics;
    bool _wasHalted;                                               // when it left Run, or by its registers

    const int InterruptFlagBit = 9;                                // of RFLAGS

    public void Reset()
    {
        Interlocked.Exchange(ref _signals, 0);
        _powerOn.Load(Exchange);
    }

    public void Exchange(StateStream state)
    {
        if (!state.IsLoading) TakeSignals();                       // what came while it stood
        CpuRegisters registers = ReadRegisters();
        registers.Exchange(state.Section("registers"));
        if (state.IsLoading) WriteRegisters(registers);
        StateStream kernel = state.Section("kvm");
        if (!HasOwnApic) Block(kernel, "lapic", KvmApi.GetLapic, KvmApi.SetLapic, 1024);
        Block(kernel, "events", KvmApi.GetVCpuEvents, KvmApi.SetVCpuEvents, 64);
        if (!HasOwnApic) Block<uint>(kernel, "mp-state", KvmApi.GetMpState, KvmApi.SetMpState);
    }

    /// <summary>The kernel's counts, and how often it came back to us.</summary>
    public IReadOnlyList<Statistic> Statistics() =>
        [.. _statistics?.Read() ?? [], .. Exits.All.Where(static exit => exit.Count != 0)
            .Select(static exit => Statistic.Count($"userspace-exits-{exit.Reason}", exit.Count))];

    // uninitialized, halted
    bool AsksKernelIsHalted() => !HasOwnApic && Get<uint>(KvmApi.GetMpState) is 1 or 3;

    /// <summary>A guest with kvmclock does not take the pause for a processor that hangs; others have no such
    /// flag.</summary>
    public void TellOfPause() => Libc.ioctl(_fd, KvmApi.ClockControl, 0);

    public CpuRegisters ReadRegisters()
    {
        CpuRegisters registers = KvmRegisters.Read(_fd, _hasHyperV);
        if (HasOwnApic) ReadSleep(registers);
        return registers;
    }

    public void WriteRegisters(CpuRegisters registers)
    {
        KvmRegisters.Write(_fd, registers, _hasHyperV, HasOwnApic);
        if (HasOwnApic) WriteSleep(registers);
        _wasHalted = registers.IsHalted || registers.WaitsForSipi;
        // Until it has run, the kernel does not say that it takes interrupts.
        _run->ReadyForInterrupt = 0;
        _run->InterruptFlag = (byte)(registers.Rflags >> InterruptFlagBit & 1);
    }

    public bool TryTranslate(ulong linear, out ulong physical)
    {
        var translation = new KvmTranslation { LinearAddress = linear };
        KvmApi.Call(_fd, KvmApi.Translate, &translation, "cannot translate an address");
        physical = translation.PhysicalAddress;
        return translation.Valid != 0;
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
