using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object memory-backend-ram: the guest's memory, when -machine memory-backend= names it. Shared, it is the
/// same as memory-backend-shm.</summary>
public static class MemoryBackendRam
{
    public static readonly ObjectModel Model = new("memory-backend-ram",
        [.. Common, Property.Bool("share", false, "other processes can be given it")],
        static (properties, _) => Make(properties, properties.Bool("share") ? () => Shared(properties) : null, Grow))
        { Description = "memory of this process" };

    /// <summary>QEMU's since 9.2: memory for others to map, on systems without memfd_create, too.</summary>
    public static readonly ObjectModel Shm = new("memory-backend-shm",
        [.. Common, Property.Bool("share", true, "who has the descriptor sees what the guest writes")],
        static (properties, _) => properties.Bool("share") ? Make(properties, () => Shared(properties), Grow)
            : throw properties.Error("share=off: this memory is always shared; use memory-backend-ram"))
        { Description = "shared memory" };

    /// <summary>What each kind of memory takes.</summary>
    internal static Property[] Common =>
    [
        Property.Size("size", help: "bytes"), Property.Bool("prealloc", false, "all pages exist before the guest runs"),
        Property.OnOffAuto("dump", "part of core dumps"), Property.OnOffAuto("merge", "equal pages may become one"),
        Property.Missing("reserve", "on"), Property.Missing("policy", "default"), Property.Missing("host-nodes"),
        Property.Missing("prealloc-context"), Property.Text("prealloc-threads", help: "taken, no effect"),
        Property.Text("x-use-canonical-path-for-ramblock-id", help: "taken, no effect"),
    ];

    /// <param name="open">What it is mapped over; null for memory of this process alone.</param>
    /// <param name="prepare">Makes it as large as the memory, in bytes.</param>
    /// <param name="cure">What to do where the host refuses.</param>
    internal static MemoryBackend Make(Properties properties, Func<MemoryFile>? open = null,
        Action<MemoryFile, ulong>? prepare = null, string cure = "")
    {
        MemoryFile? file = null;
        try
        {
            ulong size = SizeOf(properties, GuestRam.PageSize);
            file = open?.Invoke();
            if (file != null) prepare?.Invoke(file, SizeOf(properties, file.PageSize));
            return new MemoryBackend(new GuestRam(properties.Text("id") ?? Model.Name, size, file),
                properties.Bool("prealloc"), properties.OnOffAuto("dump"), properties.OnOffAuto("merge"));
        }
        catch (HostException e)
        {
            file?.Dispose();
            throw properties.Error(e.Message + (file is { HasHugePages: true }
                ? "; give the host enough huge pages: /proc/sys/vm/nr_hugepages" : cure), e);
        }
        catch
        {
            file?.Dispose();
            throw;
        }
    }

    static MemoryFile Shared(Properties properties) => MemoryFile.Create(properties.Required("id"), isShared: true);

    static void Grow(MemoryFile file, ulong size) => file.SetLength(size);

    static ulong SizeOf(Properties properties, ulong pageSize)
    {
        ulong size = properties.NumberOrAuto("size") ?? throw properties.Error("needs size=");
        return size > 0 && size % pageSize == 0 && size <= long.MaxValue ? size
            : throw properties.Error($"size={size} is no multiple of {pageSize} bytes");
    }
}
