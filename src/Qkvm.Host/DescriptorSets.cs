using System.Globalization;

namespace Qkvm.Host;

/// <summary>Descriptors that a manager opened for us, by numbers of its choice: /dev/fdset/3 opens whichever of set 3
/// has the wanted access. They are the process's, as descriptors are. From any thread.</summary>
public static class DescriptorSets
{
    /// <param name="Opaque">The manager's own note.</param>
    public readonly record struct Member(int Set, int Fd, string? Opaque);

    const string Prefix = "/dev/fdset/";
    const int GetFlags = 3, AccessMode = 3, DuplicateCloexec = 1030;

    static readonly List<Member> s_members = [];

    public static IReadOnlyList<Member> All { get { lock (s_members) return [.. s_members]; } }

    /// <param name="set">Null for the first number that is free.</param>
    /// <returns>The set's number.</returns>
    public static int Add(int? set, int fd, string? opaque)
    {
        lock (s_members)
        {
            int number = set ?? 0;
            while (set == null && s_members.Exists(m => m.Set == number)) number++;
            s_members.Add(new Member(number, fd, opaque));
            return number;
        }
    }

    /// <summary>Closes one of a set, or all of it; false where there was none.</summary>
    public static bool Remove(int set, int? fd)
    {
        lock (s_members)
        {
            List<Member> gone = s_members.FindAll(m => m.Set == set && (fd == null || m.Fd == fd));
            foreach (Member member in gone) Libc.close(member.Fd);
            s_members.RemoveAll(gone.Contains);
            return gone.Count > 0;
        }
    }

    /// <summary>A duplicate for a path that names a set; false for other paths.</summary>
    /// <param name="fd">-1 and an errno where no member fits.</param>
    public static bool TryOpen(string path, int flags, out int fd, out int errno)
    {
        (fd, errno) = (-1, Libc.ENoEnt);
        if (!path.StartsWith(Prefix, StringComparison.Ordinal)) return false;
        if (!int.TryParse(path.AsSpan(Prefix.Length), NumberStyles.None, null, out int set)) return true;
        lock (s_members)
            foreach (Member member in s_members)
            {
                if (member.Set != set) continue;
                errno = Libc.EAccess;
                if ((Libc.FileFlags(member.Fd, GetFlags, 0) & AccessMode) != (flags & AccessMode)) continue;
                fd = Libc.FileFlags(member.Fd, DuplicateCloexec, 0);
                errno = fd < 0 ? Libc.Errno : 0;
                return true;
            }
        return true;
    }
}
