using System.Text;
using Qkvm.Core.Accel;
using Qkvm.Core.Memory;

namespace Qkvm.Accel.Kvm;

// SAFETY: what the kernel counts in its page is bounded by the page's own array.
/// <summary>Says in QEMU's words why a processor cannot go on.</summary>
static unsafe class KvmFailure
{
    public const uint EmulationFailed = 1;
    const int MostData = 16;
    const ulong InvalidGuestState = 0x80000021;                    // VMX, Intel SDM vol. 3, appendix C
    const int CodeBytes = 50, CodeBefore = 20;
    const ulong InstructionBytesKnown = 1;                         // flag of an emulation failure's data
    const int InstructionAt = 8;                                   // bytes into it: a length, then the bytes
    const int LongestInstruction = 15;

    public static string Explain(KvmRun* run) => run->ExitReason switch
    {
        KvmRun.ExitUnknown => $"KVM: unknown exit, hardware reason {run->HardwareReason:x}",
        KvmRun.ExitFailEntry => $"KVM: entry failed, hardware error 0x{run->HardwareReason:x}{Advice(run)}",
        KvmRun.ExitException => "KVM: the kernel left an exception of the guest's to us, which it never should",
        KvmRun.ExitInternalError => InternalError(run),
        uint reason => $"KVM: unhandled exit {reason} ({KvmExits.NameOf(reason)})",
    };

    /// <summary>Registers, and the code around the instruction pointer.</summary>
    public static string Describe(IVCpu cpu, AddressSpace memory)
    {
        CpuRegisters registers = cpu.ReadRegisters();
        ulong at = registers.Segments[CpuRegisters.Cs].Base + registers.Rip;
        var text = new StringBuilder(registers.Dump(withFpu: false)).Append("Code=");
        ulong before = Math.Min(at, CodeBefore);
        for (ulong i = 0; i < CodeBytes; i++)
        {
            ulong linear = at - before + i;
            string value = TryReadCode(cpu, memory, linear, out byte code) ? $"{code:x2}" : "??";
            text.Append(i == before ? $"<{value}>" : value).Append(i == CodeBytes - 1 ? "" : " ");
        }
        return text.ToString();
    }

    static bool TryReadCode(IVCpu cpu, AddressSpace memory, ulong linear, out byte value)
    {
        value = 0;
        if (CodeByte.Find(memory, cpu, linear) is not { } place) return false;
        value = place.Value;
        return true;
    }

    static string InternalError(KvmRun* run)
    {
        var text = new StringBuilder($"KVM internal error. Suberror: {run->SubError}");
        int count = (int)Math.Min(run->ErrorCount, MostData);
        for (int i = 0; i < count; i++) text.Append($"\nextra data[{i}]: 0x{run->ErrorData[i]:x16}");
        if (run->SubError != EmulationFailed) return text.ToString();
        text.Append("\nemulation failure");
        if (count < 3 || (run->ErrorData[0] & InstructionBytesKnown) == 0) return text.ToString();
        byte* instruction = (byte*)run->ErrorData + InstructionAt;
        int length = Math.Min(*instruction, (byte)LongestInstruction);
        return text.Append($": {Convert.ToHexString(new ReadOnlySpan<byte>(instruction + 1, length))}").ToString();
    }

    static string Advice(KvmRun* run) => run->HardwareReason == InvalidGuestState
        ? "\nThe guest is in a state that this processor cannot run: an Intel processor without unrestricted mode "
            + "has no big real mode" : "";
}
