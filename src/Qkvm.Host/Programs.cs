using System.ComponentModel;
using System.Diagnostics;

namespace Qkvm.Host;

/// <summary>Starts other programs for this one, unless its user has forbidden it.</summary>
public static class Programs
{
    static bool s_areForbidden;

    /// <summary>-sandbox spawn=deny: where the kernel would kill this process, <see cref="Start"/> says why.</summary>
    public static void Forbid() => Volatile.Write(ref s_areForbidden, true);

    /// <exception cref="Win32Exception">It cannot be started; <see cref="Reason"/> tells why.</exception>
    public static Process Start(ProcessStartInfo start)
    {
        CheckAllowed();
        return Process.Start(start) ?? throw new Win32Exception(Libc.ENoEnt);
    }

    /// <exception cref="Win32Exception">No program can be started.</exception>
    public static void CheckAllowed()
    {
        if (Volatile.Read(ref s_areForbidden)) throw new Win32Exception(Libc.EPerm, "-sandbox spawn=deny forbids to "
            + "start programs");
    }

    /// <summary>For people.</summary>
    public static string Reason(Win32Exception e) => e.NativeErrorCode == Libc.EPerm
        && Volatile.Read(ref s_areForbidden) ? e.Message : Libc.Message(e.NativeErrorCode);
}
