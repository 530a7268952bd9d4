using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;
using Qkvm.Core.Logging;

namespace Qkvm;

/// <summary>-d int, mmu, pcall and cpu_reset, in QEMU's shape.</summary>
sealed class CpuLog(MachineLog log) : ICpuTrace
{
    /// <summary>-d cpu_reset: "CPU Reset" or "Triple fault", and the registers before.</summary>
    public void OnReset(IVCpu cpu, string reason)
    {
        if (log.Has(LogItem.CpuReset)) log.Write($"{reason} (CPU {cpu.Index})\n{cpu.DumpRegisters()}");
    }

    void ICpuTrace.Exception(Cpu cpu, int vector, uint? errorCode) => Line(cpu, vector, errorCode ?? 0, "exception");
    void ICpuTrace.Interrupt(Cpu cpu, int vector) => Line(cpu, vector, 0, "interrupt");
    void ICpuTrace.Reset(Cpu cpu) { }

    void ICpuTrace.Changed(Cpu cpu, string what, ulong value)
    {
        if (!log.Has(LogItem.Mmu)) return;
        log.Write(what switch
        {
            "A20" => $"A20 update: a20={value}\n",
            "CR0" => $"CR0 update: CR0=0x{value:x8}\n",
            _ => $"{what} update: {what}={value:x16}\n",
        });
    }

    void ICpuTrace.FarCall(Cpu cpu, ushort selector, ulong offset, int size)
    {
        if (log.Has(LogItem.Pcall))
            log.Write($"lcall {selector:x4}:{offset:x16} s={size * 8}\n{cpu.ReadRegisters().Dump(withFpu: false)}");
    }

    void Line(Cpu cpu, int vector, uint errorCode, string kind)
    {
        if (log.Has(LogItem.Int))
            log.Write($"{kind} v={vector:x2} e={errorCode:x4} cpl={cpu.Cpl} {cpu.Where}\n");
    }
}
