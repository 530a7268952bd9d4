using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object memory-backend-shm: shared memory of POSIX, whose name is gone before anybody could open it; others
/// are given the descriptor. QEMU has it since 9.1. Spec: shm_overview(7).</summary>
public static class MemoryBackendShm
{
    const string Home = "/dev/shm";

    public static readonly ObjectModel Model = new("memory-backend-shm",
        [
            .. MemoryBackendRam.Common,
            Property.Bool("share", true, "always"),
        ],
        Create) { Description = "shared memory with a descriptor" };

    static MemoryBackend Create(Properties properties, IBackendHost host)
    {
        if (!properties.Bool("share"))
            throw properties.Error("share=off: this memory is shared; use memory-backend-ram");
        return MemoryBackendRam.Make(properties,
            () => MemoryFile.Open(Home, isShared: true, isReserved: properties.Bool("reserve")),
            static (file, size) => file.SetLength(size), $"; {Home} has to be a file system that can be written");
    }
}
