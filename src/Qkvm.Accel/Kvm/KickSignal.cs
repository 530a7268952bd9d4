using Qkvm.Host;

namespace Qkvm.Accel.Kvm;

// SAFETY: the handler's page is never unmapped.
/// <summary>A signal that does nothing but end a blocking system call of one thread.</summary>
/// <remarks>Its handler is a single emitted RET: managed code must not run in a signal handler.</remarks>
static unsafe class KickSignal
{
    const int Number = 36;                                         // SIGRTMIN + 2: the runtime has SIGRTMIN
    const byte Ret = 0xC3;

    static readonly bool Installed = Install();

    public static void Prepare() => _ = Installed;

    public static void Send(int thread) => Libc.tgkill(Libc.getpid(), thread, Number);

    static bool Install()
    {
        byte* page = (byte*)Libc.mmap(null, 4096, Libc.ProtRead | Libc.ProtWrite, Libc.MapPrivate | Libc.MapAnonymous,
            -1, 0);
        if (page == (byte*)-1) throw new HostException("cannot map the signal handler", Libc.Errno);
        *page = Ret;
        if (Libc.mprotect(page, 4096, Libc.ProtRead | Libc.ProtExec) < 0)
            throw new HostException("cannot protect the signal handler", Libc.Errno);
        var action = new SignalAction { Handler = (nint)page };
        if (Libc.sigaction(Number, &action, null) < 0)
            throw new HostException("cannot install the signal handler", Libc.Errno);
        return true;
    }
}
