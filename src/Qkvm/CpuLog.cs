using Qkvm.Accel.Tcg;
using Qkvm.Core.Accel;

namespace Qkvm;

/// <summary>What -d asks for, to -D's file or stderr.</summary>
sealed class CpuLog(TextWriter output) : ICpuTrace
{
    /// <summary>-d cpu_reset: "CPU Reset" or "Triple fault", and the registers before.</summary>
    public void OnReset(IVCpu cpu, string reason)
    {
        lock (output) output.Write($"{reason} (CPU {cpu.Index})\n{cpu.DumpRegisters()}");
    }

    void ICpuTrace.Exception(Cpu cpu, int vector, uint? errorCode) => Line(cpu, vector, errorCode ?? 0, "exception");
    void ICpuTrace.Interrupt(Cpu cpu, int vector) => Line(cpu, vector, 0, "interrupt");
    void ICpuTrace.Reset(Cpu cpu) { }

    void Line(Cpu cpu, int vector, uint errorCode, string kind)
    {
        lock (output) output.Write($"{kind} v={vector:x2} e={errorCode:x4} cpl={cpu.Cpl} {cpu.Where}\n");
    }
}
