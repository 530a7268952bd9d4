using System.Numerics;
using Qkvm.Accel.Tcg.Model;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Hyper-V's hypercalls: processors flush each other's TLBs and send each other interrupts. Spec: TLFS 6.0b,
/// chapters 3, 9 and 10, appendix B.</summary>
public sealed unsafe partial class Cpu
{
    enum HyperVCall : ushort
    {
        FlushSpace = 0x02, FlushList = 0x03, LongSpinWait = 0x08, SendIpi = 0x0B, FlushSpaceEx = 0x13,
        FlushListEx = 0x14, SendIpiEx = 0x15, PostMessage = 0x5C, SignalEvent = 0x5D,
    }

    enum HyperVStatus : ushort
    {
        Success = 0, InvalidCode = 2, InvalidInput = 3, InvalidAlignment = 4, InvalidParameter = 5,
        InvalidConnection = 0x12,
    }

    /// <summary>Section 3.7: the input value, and where or what the parameters are.</summary>
    readonly record struct HyperVInput(ulong Value, ulong Input)
    {
        public HyperVCall Code => (HyperVCall)(ushort)Value;
        public bool IsFast => (Value & 1 << 16) != 0;
        public int VariableQwords => (int)(Value >> 17 & 0x3FF);
        public int Count => (int)(Value >> 32 & 0xFFF);
        public int First => (int)(Value >> 48 & 0xFFF);
    }

    const int MostBanks = 64;

    /// <summary>VMCALL and VMMCALL once the guest has given its name. 64-bit: RCX, RDX and R8; else EDX:EAX, EBX:ECX
    /// and EDI:ESI; the result in RAX, or EDX:EAX.</summary>
    void CallHyperV()
    {
        if (Cpl != 0 || (State->Cr0 & Cr0.Pe) == 0) throw Ud();
        ulong second = Is64Bit ? State->Gpr[8] : Pair(Rdi, Rsi);
        HyperVInput input = Is64Bit ? new(Rcx, Rdx) : new(Pair(Rdx, Rax), Pair(Rbx, Rcx));
        (HyperVStatus status, int done) = Obey(input, second);
        ulong result = (ushort)status | (ulong)(uint)done << 32;
        if (Is64Bit) Rax = result;
        else (Rax, Rdx) = ((uint)result, result >> 32);

        static ulong Pair(ulong high, ulong low) => high << 32 | (uint)low;
    }

    (HyperVStatus, int Done) Obey(HyperVInput input, ulong second)
    {
        bool isList = input.Code is HyperVCall.FlushList or HyperVCall.FlushListEx;
        bool isEx = input.Code is HyperVCall.FlushSpaceEx or HyperVCall.FlushListEx or HyperVCall.SendIpiEx;
        HyperVFeatures needed = input.Code switch
        {
            HyperVCall.FlushSpace or HyperVCall.FlushList or HyperVCall.FlushSpaceEx or HyperVCall.FlushListEx =>
                HyperVFeatures.TlbFlush,
            HyperVCall.SendIpi or HyperVCall.SendIpiEx => HyperVFeatures.Ipi,
            HyperVCall.PostMessage or HyperVCall.SignalEvent => HyperVFeatures.SynIc,
            _ => HyperVFeatures.None,
        };
        if (!Enum.IsDefined(input.Code) || needed != HyperVFeatures.None && !Enlightenments.Has(needed))
            return (HyperVStatus.InvalidCode, 0);
        if (!isEx && input.VariableQwords != 0 || isList != (input.Count != 0)
            || (isList ? input.First >= input.Count : input.First != 0)) return (HyperVStatus.InvalidInput, 0);
        if (!input.IsFast && (input.Input & 7) != 0) return (HyperVStatus.InvalidAlignment, 0);
        switch (input.Code)
        {
            case HyperVCall.LongSpinWait:
                Thread.Yield();
                return (HyperVStatus.Success, 0);
            case HyperVCall.PostMessage or HyperVCall.SignalEvent: return (HyperVStatus.InvalidConnection, 0);
            case HyperVCall.SendIpi or HyperVCall.SendIpiEx: return (SendIpi(input, second, isEx), 0);
        }
        HyperVStatus status = FlushOthers(input, isEx);
        return (status, status == HyperVStatus.Success && isList ? input.Count : 0);
    }

    /// <summary>Parameters: address space, flags, processors; what lies in a list is flushed with all else.</summary>
    HyperVStatus FlushOthers(HyperVInput input, bool isEx)
    {
        const ulong allProcessors = 1;
        const int flagsAt = 8, processorsAt = 16;
        if (input.IsFast) return HyperVStatus.InvalidInput;
        bool isAll = (Memory.Read(input.Input + flagsAt, 8) & allProcessors) != 0;
        Span<ulong> banks = stackalloc ulong[MostBanks];
        if (isEx)
        {
            HyperVStatus status = ReadSet(input, processorsAt, banks, ref isAll);
            if (status != HyperVStatus.Success) return status;
        }
        else banks[0] = Memory.Read(input.Input + processorsAt, 8);
        foreach (Cpu cpu in _code.Cpus)
            if (isAll || IsIn(banks, cpu.Index)) FlushOther(cpu);
        return HyperVStatus.Success;
    }

    /// <summary>Parameters: vector (32 bits), trust level, processors. Fast: the first two in one register, 64
    /// processors in the other.</summary>
    HyperVStatus SendIpi(HyperVInput input, ulong second, bool isEx)
    {
        const int processorsAt = 8;
        const byte firstVector = 16;
        if (input.IsFast && isEx) return HyperVStatus.InvalidInput;
        ulong head = input.IsFast ? input.Input : Memory.Read(input.Input, 8);
        uint vector = (uint)head;
        if (vector is < firstVector or > byte.MaxValue || head >> 32 != 0) return HyperVStatus.InvalidInput;
        bool isAll = false;
        Span<ulong> banks = stackalloc ulong[MostBanks];
        if (isEx)
        {
            HyperVStatus status = ReadSet(input, processorsAt, banks, ref isAll);
            if (status != HyperVStatus.Success) return status;
        }
        else banks[0] = input.IsFast ? second : Memory.Read(input.Input + processorsAt, 8);
        foreach (Cpu cpu in _code.Cpus)
            if (isAll || IsIn(banks, cpu.Index)) cpu.Apic?.Inject((byte)vector);
        return HyperVStatus.Success;
    }

    /// <summary>HV_VP_SET, section 7.8.7.3: format, which banks of 64 follow, these.</summary>
    HyperVStatus ReadSet(HyperVInput input, int at, Span<ulong> banks, ref bool isAll)
    {
        const ulong sparse = 0, all = 1;
        ulong address = input.Input + (ulong)at, format = Memory.Read(address, 8);
        if (format == all)
        {
            isAll = true;
            return HyperVStatus.Success;
        }
        ulong valid = Memory.Read(address + 8, 8);
        if (format != sparse || BitOperations.PopCount(valid) != input.VariableQwords) return HyperVStatus.InvalidInput;
        address += 16;
        for (int bank = 0; bank < MostBanks; bank++)
        {
            if ((valid >> bank & 1) == 0) continue;
            banks[bank] = Memory.Read(address, 8);
            address += 8;
        }
        return HyperVStatus.Success;
    }

    static bool IsIn(ReadOnlySpan<ulong> banks, int index) =>
        index < MostBanks * 64 && (banks[index / 64] >> index % 64 & 1) != 0;
}
