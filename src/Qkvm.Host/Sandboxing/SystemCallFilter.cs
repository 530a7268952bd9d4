namespace Qkvm.Host.Sandboxing;

/// <summary>What -sandbox forbids beside what is always forbidden.</summary>
public sealed record SandboxRules(bool DenyObsolete = true, bool DenyPrivileges = false, bool DenySpawn = false,
    bool DenyResourceControl = false);

/// <summary>The seccomp filters of -sandbox: QEMU's sets of system calls, seen in the filters that QEMU 7.2 installs.
/// Numbers are those of x86-64; what a filter sees is struct seccomp_data, seccomp(2).</summary>
public static class SystemCallFilter
{
    public const uint Allow = 0x7FFF0000, KillProcess = 0x80000000, KillThread = 0, Trap = 0x00030000,
        Error = 0x00050000;

    // struct seccomp_data: number, architecture, and the first two arguments, low halves first
    const uint Number = 0, Architecture = 4, FirstLow = 16, FirstHigh = 20, SecondLow = 24, SecondHigh = 28;

    const uint X86_64 = 0xC000003E, X32Bit = 0x40000000, SkippedByTracer = uint.MaxValue;
    const uint NotPermitted = 1, NotImplemented = 38;

    const int Clone = 56, Clone3 = 435, SetScheduler = 144, IdlePolicy = 5;

    /// <summary>mount, syslog, getpmsg, putpmsg, afs_syscall, tuxcall, security, vserver, swapon, swapoff, reboot,
    /// kexec_load: nobody runs a machine with them.</summary>
    static readonly int[] Always = [165, 103, 181, 182, 183, 184, 185, 236, 167, 168, 169, 246];

    /// <summary>uselib, ustat, sysfs, _sysctl, create_module, get_kernel_syms, query_module.</summary>
    static readonly int[] Obsolete = [134, 136, 139, 156, 174, 177, 178];

    /// <summary>setuid, setgid, setpgid, setsid, setreuid, setregid, setresuid, setresgid, setfsuid,
    /// setfsgid.</summary>
    static readonly int[] Privileges = [105, 106, 109, 112, 113, 114, 117, 119, 122, 123];

    /// <summary>fork, vfork, execve, unshare, setns, execveat; clone has rules of its own.</summary>
    static readonly int[] Spawn = [57, 58, 59, 272, 308, 322];

    /// <summary>setpriority, sched_setparam, sched_setaffinity: EPERM, as programs try them and go on.</summary>
    static readonly int[] ResourceControl = [141, 142, 203];

    // clone(2)'s flags as pthread_create gives them: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID,
    // CHILD_CLEARTID; and those that make something else: PIDFD, PTRACE, VFORK, PARENT, UNTRACED, IO and all namespaces
    const uint ThreadFlags = 0x3D0F00, OtherFlags = 0xFE82F000;

    /// <param name="kill">What happens to who calls what is forbidden: <see cref="KillProcess"/>, or
    /// <see cref="Trap"/> where the kernel lacks that (before 4.14).</param>
    public static BpfInstruction[] Assemble(SandboxRules rules, uint kill = KillProcess)
    {
        var code = new BpfProgram();
        BpfLabel denied = new(), refused = new(), absent = new(), allowed = new(), foreign = new();
        code.Load(Architecture);
        code.JumpUnlessEqual(X86_64, foreign);
        code.Load(Number);
        code.JumpIfEqual(SkippedByTracer, allowed);
        code.JumpIfAtLeast(X32Bit, foreign);
        foreach (int number in Always) code.JumpIfEqual((uint)number, denied);
        if (rules.DenyObsolete) foreach (int number in Obsolete) code.JumpIfEqual((uint)number, denied);
        if (rules.DenyPrivileges) foreach (int number in Privileges) code.JumpIfEqual((uint)number, denied);
        if (rules.DenySpawn)
        {
            foreach (int number in Spawn) code.JumpIfEqual((uint)number, denied);
            code.JumpIfEqual(Clone3, absent);                      // its flags are in memory; glibc then takes clone
        }
        if (rules.DenyResourceControl)
        {
            foreach (int number in ResourceControl) code.JumpIfEqual((uint)number, refused);
            BpfLabel next = new();
            code.JumpUnlessEqual(SetScheduler, next);
            code.Load(SecondHigh);
            code.JumpUnlessEqual(0, refused);
            code.Load(SecondLow);
            code.JumpIfEqual(IdlePolicy, allowed);
            code.Return(Error | NotPermitted);
            code.Place(next);
        }
        if (rules.DenySpawn)
        {
            code.JumpUnlessEqual(Clone, allowed);
            code.Load(FirstHigh);
            code.JumpUnlessEqual(0, denied);
            code.Load(FirstLow);
            code.And(ThreadFlags | OtherFlags);
            code.JumpUnlessEqual(ThreadFlags, denied);
        }
        code.Place(allowed);
        code.Return(Allow);
        code.Place(denied);
        code.Return(kill);
        code.Place(refused);
        code.Return(Error | NotPermitted);
        code.Place(absent);
        code.Return(Error | NotImplemented);
        code.Place(foreign);
        code.Return(KillThread);
        return code.Assemble();
    }
}
