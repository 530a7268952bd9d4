using System.Runtime.InteropServices;
using System.Text;

namespace Qkvm.Host.Sandboxing;

/// <summary>Whom -runas names: a user of the host, or two numbers.</summary>
/// <param name="Name">Null for numbers.</param>
/// <remarks>SAFETY: strings end with zero bytes; the C library's records are read before the next call.</remarks>
public sealed unsafe partial record Account(string? Name, uint User, uint Group)
{
    // struct passwd on x86-64
    const int UserOffset = 16, GroupOffset = 20;

    /// <summary>"user" or "uid:gid"; null for neither.</summary>
    public static Account? Find(string text)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(text + "\0"))
            if (text.Length > 0 && getpwnam(name) is var entry && entry != null)
                return new Account(text, *(uint*)(entry + UserOffset), *(uint*)(entry + GroupOffset));
        string[] numbers = text.Split(':');
        // the highest number means "leave it" to the kernel
        return numbers.Length == 2 && uint.TryParse(numbers[0], out uint user) && user != uint.MaxValue
            && uint.TryParse(numbers[1], out uint group) && group != uint.MaxValue
            ? new Account(null, user, group) : null;
    }

    /// <summary>All threads become it, for good.</summary>
    /// <exception cref="HostException">Says which step failed; the process must end.</exception>
    public void Become()
    {
        if (setgid(Group) < 0) throw Failed($"setgid({Group})");
        if (Name != null)
            fixed (byte* name = Encoding.UTF8.GetBytes(Name + "\0"))
            {
                if (initgroups(name, Group) < 0) throw Failed($"initgroups(\"{Name}\", {Group})");
            }
        else
        {
            uint group = Group;
            if (setgroups(1, &group) < 0) throw Failed($"setgroups(1, [{Group}])");
        }
        if (setuid(User) < 0) throw Failed($"setuid({User})");
        if (User != 0 && setuid(0) == 0) throw new HostException("Dropping privileges failed", Libc.EPerm);
    }

    static HostException Failed(string step) => new($"Failed to {step}", Libc.Errno);

    [LibraryImport("libc")]
    private static partial byte* getpwnam(byte* name);

    // The functions, not the system calls: these change one thread alone.

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setgid(uint group);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setuid(uint user);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setgroups(nuint count, uint* groups);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int initgroups(byte* name, uint group);
}
