using System.Globalization;

namespace Qkvm.Control.Gdb;

/// <summary>A thread as packets name it: pPROCESS.THREAD or THREAD alone, 0 for any, -1 for all. There is one process,
/// 1; threads are vCPUs from 1 on. GDB manual, section E.2.</summary>
readonly record struct ThreadId(int Thread)
{
    const int Process = 1, Any = 0, All = -1;

    public bool IsAll => Thread == All;
    public bool IsAny => Thread == Any;

    /// <summary>The vCPU's number.</summary>
    public int Cpu => Thread - 1;

    public bool Names(int cpu) => IsAll || IsAny || Cpu == cpu;

    /// <summary>As QEMU writes it: p01.02 for a client that knows of processes, or 02.</summary>
    public static string Of(int cpu, bool multiprocess) =>
        multiprocess ? $"p{Process:x2}.{cpu + 1:x2}" : $"{cpu + 1:x2}";

    /// <summary>False: no such thread, or not written so.</summary>
    public static bool TryParse(string text, int cpus, out ThreadId id)
    {
        id = new ThreadId(All);
        if (text.StartsWith('p'))
        {
            string[] parts = text[1..].Split('.', 2);
            if (!TryNumber(parts[0], out int process) || process is not (Process or Any or All)) return false;
            if (parts.Length == 1 || process == All) return true;
            text = parts[1];
        }
        if (!TryNumber(text, out int thread) || thread > cpus) return false;
        id = new ThreadId(thread);
        return true;
    }

    static bool TryNumber(string text, out int number)
    {
        number = All;
        return text == "-1" || int.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture,
            out number) && number >= 0;
    }
}
