using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object memory-backend-ram: the guest's memory, when -machine memory-backend= names it.</summary>
public static class MemoryBackendRam
{
    public static readonly ObjectModel Model = new("memory-backend-ram",
        [.. Common, Property.Bool("share", false, "other processes can be given it")],
        static (properties, _) => properties.Bool("share")
            ? Make(properties, () => MemoryFile.Create(properties.Required("id"), isShared: true),
                static (file, size) => file.SetLength(size))
            : Make(properties)) { Description = "memory of this process" };

    /// <summary>What each kind of memory takes.</summary>
    internal static Property[] Common =>
    [
        Property.Size("size", help: "bytes"), Property.Bool("prealloc", false, "all pages exist before the guest runs"),
        Property.OnOffAuto("dump", "part of core dumps"), Property.OnOffAuto("merge", "equal pages may become one"),
        Property.Bool("reserve", true, "huge pages are set aside at once"),
        Property.Enum("policy", "default", ["default", "preferred", "bind", "interleave"],
            "which NUMA nodes of the host it lies on"),
        Property.Texts("host-nodes", "those nodes: 0 or 0-3"),
        Property.Missing("prealloc-context"),
        Property.Number("prealloc-threads", 1, min: 1, max: uint.MaxValue, help: "no effect: the kernel is asked once"),
        Property.Bool(CanonicalName, false, "it is called /objects/ID where blocks of memory have names"),
    ];

    const string CanonicalName = "x-use-canonical-path-for-ramblock-id";

    /// <param name="open">What it is mapped over; null for memory of this process alone.</param>
    /// <param name="prepare">Makes it as large as the memory, in bytes.</param>
    /// <param name="cure">What to do where the host refuses.</param>
    /// <param name="isReadOnly">Nobody writes it.</param>
    internal static MemoryBackend Make(Properties properties, Func<MemoryFile>? open = null,
        Action<MemoryFile, ulong>? prepare = null, string cure = "", bool isReadOnly = false)
    {
        if (properties.Bool("prealloc") && !properties.Bool("reserve"))
            throw properties.Error("'prealloc=on' and 'reserve=off' are incompatible");
        (HostPolicy policy, IReadOnlyList<int> nodes) = MemoryPolicy.Of(properties);
        string id = properties.Text("id") ?? Model.Name;
        MemoryFile? file = null;
        GuestRam? ram = null;
        try
        {
            ulong size = SizeOf(properties, GuestRam.PageSize);
            file = open?.Invoke();
            if (file != null) prepare?.Invoke(file, SizeOf(properties, file.PageSize));
            ram = new GuestRam(properties.Bool(CanonicalName) ? $"/objects/{id}" : id, size, file);
            if (policy != HostPolicy.Default) ram.Bind(policy, nodes);
            return new MemoryBackend(ram, properties.Bool("prealloc"), properties.OnOffAuto("dump"),
                properties.OnOffAuto("merge"))
            {
                IsReserved = properties.Bool("reserve"), Policy = policy, HostNodes = nodes, IsReadOnly = isReadOnly,
            };
        }
        catch (HostException e)
        {
            Forget();
            string why = ram != null ? MemoryPolicy.Cure : file is { HasHugePages: true }
                ? "; give the host enough huge pages: /proc/sys/vm/nr_hugepages" : cure;
            throw properties.Error(e.Message + why, e);
        }
        catch
        {
            Forget();
            throw;
        }

        void Forget()
        {
            if (ram != null) ram.Dispose();
            else file?.Dispose();
        }
    }

    static ulong SizeOf(Properties properties, ulong pageSize)
    {
        ulong size = properties.NumberOrAuto("size") ?? throw properties.Error("needs size=");
        return size > 0 && size % pageSize == 0 && size <= long.MaxValue ? size
            : throw properties.Error($"size={size} is no multiple of {pageSize} bytes");
    }
}
