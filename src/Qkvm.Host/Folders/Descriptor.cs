namespace Qkvm.Host.Folders;

/// <summary>A descriptor, or minus an errno where there is none: for a using statement.</summary>
/// <param name="isOwned">It is closed at the end.</param>
public readonly struct Descriptor(int fd, bool isOwned = true) : IDisposable
{
    public int Fd => fd;
    public bool Failed => fd < 0;

    public void Dispose()
    {
        if (isOwned && fd >= 0) Libc.close(fd);
    }
}
