using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>64-bit programs on vector registers in the interpreter, with data at <see cref="Data"/> and no page at
/// <see cref="Absent"/>.</summary>
public abstract unsafe class VectorProgram : IDisposable
{
    private protected const ulong At = 0x10000, Data = 0x40000, Absent = 0x200000;

    /// <summary>No fault.</summary>
    private protected const int Ok = -1;

    private protected readonly GuestMachine _machine;
    private protected ulong _start = At;

    private protected VectorProgram() : this("max") { }

    private protected VectorProgram(string model, params (string, bool)[] features)
    {
        _machine = new GuestMachine(1, model, features);
        _machine.Flat(64);
        _machine.Memory.Write(GuestMachine.Tables + 0x2000 + 8, 8, 0UL);                // Absent: the second 2 MiB
        S->Cr0 |= Cr0.Ne | Cr0.Mp;
        S->Cr4 |= Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave;
        S->Xcr0 = _machine.Cpu.Xcr0Supported;
        *(ushort*)Area = 0x37F;
        _machine.Cpu.ModeChanged();
    }

    private protected CpuState* S => _machine.Cpu.State;
    private protected byte* Area => S->Xsave.Bytes;
    private protected ref uint Mxcsr => ref *(uint*)(Area + XsaveArea.Mxcsr);
    private protected byte* Memory(ulong at) => _machine.Ram.Pointer + at;

    public void Dispose()
    {
        _machine.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Runs the program, each at a place of its own; the vector of the fault that ended it, or
    /// <see cref="Ok"/>.</summary>
    private protected int Run(Action<Assembler> program)
    {
        _start += 0x200;
        int length = _machine.Place(_start, 64, program).Length;
        S->Rip = _start;
        _machine.Cpu.FindVectorsInUse();
        try
        {
            while (S->Rip < _start + (ulong)length) _machine.Cpu.RunOne();
            return Ok;
        }
        catch (GuestFault fault)
        {
            return fault.Number;
        }
    }
}
