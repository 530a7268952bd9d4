using System.Runtime.InteropServices;

namespace Qkvm.Host.Sandboxing;

/// <summary>Installs -sandbox' filter. SAFETY: the kernel copies the filter during the call.</summary>
public static unsafe class Sandbox
{
    const int NoNewPrivileges = 38;                                // of prctl(2)
    const int SetModeFilter = 1, GetActionAvailable = 2;            // of seccomp(2)
    const uint AllThreads = 1;                                     // SECCOMP_FILTER_FLAG_TSYNC

    [StructLayout(LayoutKind.Sequential)]
    struct FilterProgram
    {
        public ushort Length;
        public BpfInstruction* Code;
    }

    /// <summary>From now on, for all threads, for good, and for all programs that they start.</summary>
    /// <exception cref="HostException">The kernel does not take it; nothing has changed but that programs with the
    /// set-user-ID bit get no rights by it.</exception>
    public static void Install(SandboxRules rules)
    {
        const string what = "failed to install seccomp syscall filter in the kernel";
        uint kill = SystemCallFilter.KillProcess;
        if (Libc.seccomp(GetActionAvailable, 0, &kill) != 0) kill = SystemCallFilter.Trap;
        BpfInstruction[] filter = SystemCallFilter.Assemble(rules, kill);
        if (Libc.prctl(NoNewPrivileges, 1, 0, 0, 0) != 0) throw new HostException(what, Libc.Errno);
        fixed (BpfInstruction* code = filter)
        {
            var program = new FilterProgram { Length = (ushort)filter.Length, Code = code };
            int result = Libc.seccomp(SetModeFilter, AllThreads, &program);
            if (result != 0) throw new HostException(what, result > 0 ? Libc.EInval : Libc.Errno);
        }
    }
}
