using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Control.Gdb;

/// <summary>Guest memory as a debugger sees it: by a vCPU's translation of now, without setting its bits or faulting;
/// or physical. ROM is written too. While the machine stands.</summary>
static class DebugMemory
{
    const ulong PageSize = 4096;

    /// <summary>False: some of it is not there.</summary>
    public static bool TryRead(IMachine machine, IVCpu? cpu, ulong at, Span<byte> data)
    {
        while (data.Length > 0)
        {
            if (!TryFind(machine, cpu, at, data.Length, out _, out ulong physical, out int count))
                return false;
            machine.Board.Memory.Read(physical, data[..count]);
            at += (ulong)count;
            data = data[count..];
        }
        return true;
    }

    /// <summary>False: some of it is not there; what comes before that is written.</summary>
    public static bool TryWrite(IMachine machine, IVCpu? cpu, ulong at, ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            if (!TryFind(machine, cpu, at, data.Length, out FlatRange range, out ulong physical, out int count))
                return false;
            if (range.Ram is { } ram)
            {
                ulong offset = range.RamOffset + (physical - range.Start);
                data[..count].CopyTo(ram.Span(offset, count));
                ram.MarkWritten(offset, (ulong)count);
            }
            else machine.Board.Memory.Write(physical, data[..count]);
            at += (ulong)count;
            data = data[count..];
        }
        return true;
    }

    /// <summary>What lies at an address, and how many bytes of it.</summary>
    /// <param name="cpu">Whose translation; null for a physical address.</param>
    static bool TryFind(IMachine machine, IVCpu? cpu, ulong at, int length, out FlatRange range, out ulong physical,
        out int count)
    {
        (range, physical, count) = (default, at, 0);
        if (cpu != null && !cpu.TryTranslate(at, out physical)) return false;
        if (!machine.Board.Memory.View.TryFind(physical, out range)) return false;
        ulong inPage = PageSize - at % PageSize;
        count = (int)Math.Min(Math.Min((ulong)length, inPage), range.End - physical);
        return true;
    }
}
