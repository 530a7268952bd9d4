using System.Numerics;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object memory-backend-memfd: memory with a descriptor that other processes can be given.</summary>
public static class MemoryBackendMemfd
{
    const ulong UsualHugePage = 2 << 20;

    public static readonly ObjectModel Model = new("memory-backend-memfd",
        [
            .. MemoryBackendRam.Common,
            Property.Bool("share", true, "who has the descriptor sees what the guest writes"),
            Property.Bool("seal", true, "nobody changes the size"),
            Property.Bool("hugetlb", false, "of the host's huge pages"),
            Property.Size("hugetlbsize", null, "bytes of such a page (default: 2M)"),
        ],
        Create) { Description = "memory with a descriptor" };

    static MemoryBackend Create(Properties properties, IBackendHost host)
    {
        ulong hugePage = properties.NumberOrAuto("hugetlbsize") ?? UsualHugePage;
        if (!BitOperations.IsPow2(hugePage))
            throw properties.Error($"hugetlbsize={hugePage} is no size of a page, such as 2M or 1G");
        return MemoryBackendRam.Make(properties,
            () => MemoryFile.Create(properties.Required("id"), properties.Bool("share"),
                properties.Bool("hugetlb") ? hugePage : 0, properties.Bool("reserve")),
            (file, size) =>
            {
                file.SetLength(size);
                if (properties.Bool("seal")) file.Seal();
            });
    }
}
