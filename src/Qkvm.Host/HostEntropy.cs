using System.Runtime.InteropServices;

namespace Qkvm.Host;

/// <summary>Random bytes from the host's kernel: getrandom(2), which does not block once the host has booted.</summary>
public static unsafe class HostEntropy
{
    public static void Fill(Span<byte> data)
    {
        while (data.Length > 0)
        {
            nint count;
            // SAFETY: at most data.Length bytes
            fixed (byte* at = data) count = Libc.getrandom(at, (nuint)data.Length, 0);
            if (count < 0 && Libc.Errno != Libc.EIntr) throw new HostException("cannot get random bytes", Libc.Errno);
            if (count > 0) data = data[(int)count..];
        }
    }
}
