using System.Numerics;
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
            Property.Size("align", 0, "the memory begins at a multiple of so many bytes"),
            Property.Size("offset", 0, "where in the file it begins"),
            Property.Bool("readonly", false, "the file stays as it is"),
            Property.OnOffAuto("rom", "with readonly=on: nobody writes it; off: who writes gets own pages"),
            Property.Bool("pmem", false, "what is written outlasts a loss of power"),
        ],
        Create) { Description = "memory over a file" };

    static MemoryBackend Create(Properties properties, IBackendHost host)
    {
        string path = properties.Required("mem-path");
        bool isReadOnly = properties.Bool("readonly"), isRom = isReadOnly && properties.OnOffAuto("rom") != false;
        ulong align = properties.Size("align"), offset = properties.Size("offset");
        if (properties.Bool("pmem"))
            throw properties.Error("Lack of libpmem support while setting the 'pmem=on' of "
                + $"{Model.Name}; We can't ensure data persistence.");
        if (!isReadOnly && properties.OnOffAuto("rom") == true)
            throw properties.Error("property 'rom' = 'on' is not supported with 'readonly' = 'off'");
        if (isReadOnly && !isRom && properties.Bool("share"))
            throw properties.Error("property 'rom' = 'off' is incompatible with 'readonly' = 'on' and 'share' = 'on'");
        if (align != 0 && (align % GuestRam.PageSize != 0 || !BitOperations.IsPow2(align)))
            throw properties.Error($"alignment 0x{align:x} must be multiples of page size 0x{GuestRam.PageSize:x}, and "
                + "a power of two");
        return MemoryBackendRam.Make(properties,
            () => MemoryFile.Open(path, properties.Bool("share"), properties.Bool("discard-data"), isReadOnly,
                properties.Bool("reserve"), align, offset), Prepare,
            isReadOnly ? "; name a file that can be read" : "; name a file or a directory that can be written", isRom);

        // One with contents is something that somebody keeps: it is not made larger.
        void Prepare(MemoryFile file, ulong size)
        {
            long length = file.Length;
            if (offset % file.PageSize != 0 || offset > long.MaxValue - size)
                throw properties.Error($"offset={offset} is no multiple of {file.PageSize} bytes");
            if (length <= 0 && !isReadOnly) file.SetLength(offset + size);
            else if (length < 0 || (ulong)length < offset + size)
                throw properties.Error($"'{path}' has {length} bytes, not the {offset + size} of the memory; name a "
                    + "new or an empty file, or one of that size");
        }
    }
}
