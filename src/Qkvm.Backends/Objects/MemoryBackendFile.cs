using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Objects;

/// <summary>-object memory-backend-file and -mem-path: memory over a file, which shows it to others when it is
/// shared.</summary>
public static class MemoryBackendFile
{
    public static readonly ObjectModel Model = new("memory-backend-file",
        [
            .. MemoryBackendRam.Common,
            Property.Text("mem-path", help: "the file, or the directory of one without a name"),
            Property.Bool("share", false, "what the guest writes is in the file"),
            Property.Bool("discard-data", false, "with share=on: the contents end with the memory"),
            Property.Missing("align", "0"), Property.Missing("pmem", "off"), Property.Missing("readonly", "off"),
        ],
        Create) { Description = "memory over a file" };

    static MemoryBackend Create(Properties properties, IBackendHost host)
    {
        string path = properties.Required("mem-path");
        return MemoryBackendRam.Make(properties,
            () => MemoryFile.Open(path, properties.Bool("share"), properties.Bool("discard-data")), Prepare,
            "; name a file or a directory that can be written");

        // One with contents is something that somebody keeps: it is not made larger.
        void Prepare(MemoryFile file, ulong size)
        {
            long length = file.Length;
            if (length <= 0) file.SetLength(size);
            else if ((ulong)length < size)
                throw properties.Error($"'{path}' has {length} bytes, not the {size} of the memory; name a new or an "
                    + "empty file, or one of that size");
        }
    }
}
