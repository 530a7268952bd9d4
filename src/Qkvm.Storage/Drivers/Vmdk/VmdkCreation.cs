using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Vmdk;

/// <summary>Makes vmdk images as <c>qemu-img create -f vmdk</c> does.</summary>
static class VmdkCreation
{
    public static readonly ImageCreation Model = new(
        [
            Property.Size("size", help: "Virtual disk size"),
            Property.Text("adapter_type", help: "Virtual adapter type, can be one of ide (default), lsilogic, "
                + "buslogic or legacyESX"),
            Property.Text("backing_file", help: "File name of a base image"),
            Property.Text("backing_fmt", help: "Must be 'vmdk' if present"),
            Property.Bool("compat6", false, "VMDK version 6 image"),
            Property.Text("hwversion", "undefined", "VMDK hardware version"),
            Property.Text("toolsversion", help: "VMware guest tools version"),
            Property.Text("subformat", help: "VMDK flat extent format, can be one of {monolithicSparse (default) | "
                + "monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} "),
            Property.Bool("zeroed_grain", false, "Enable efficient zero writes using the zeroed-grain GTE feature")
                with { Default = null },
        ], CreateAsync);

    const int SectorSize = 512, GrainSectors = 128, EntriesPerTable = 512, DescriptorSectors = 20;

    static async ValueTask CreateAsync(NewImage image)
    {
        Properties options = image.Options;
        string subformat = options.Text("subformat") ?? "monolithicSparse";
        string adapter = options.Text("adapter_type") ?? "ide";
        if (adapter is not ("ide" or "buslogic" or "lsilogic" or "legacyESX"))
            throw image.Error($"Unknown adapter type: {adapter}");
        if (subformat is not ("monolithicFlat" or "monolithicSparse" or "twoGbMaxExtentSparse" or "twoGbMaxExtentFlat"
            or "streamOptimized")) throw image.Error($"invalid parameter value: {subformat}");
        if (options.Bool("compat6") && options.Text("hwversion") != "undefined")
            throw image.Error("compat6 cannot be enabled with hwversion set");
        bool isFlat = subformat.EndsWith("Flat", StringComparison.Ordinal);
        bool isSplit = subformat.StartsWith("twoGb", StringComparison.Ordinal);
        bool isStream = subformat == "streamOptimized";
        if (isFlat && options.Text("backing_file") != null) throw image.Error("Flat image can't have backing file");
        if (isFlat && options.Bool("zeroed_grain")) throw image.Error("Flat image can't enable zeroed grain");
        if (options.Text("backing_fmt") is { } format && format != "vmdk")
            throw image.Error("backing_file must be a vmdk image");

        bool isOne = !isFlat && !isSplit;
        var lines = new StringBuilder();
        long left = image.Size, most = isSplit ? 2L << 30 : long.MaxValue;
        for (int number = 1; left > 0 || number == 1; number++)
        {
            long bytes = Math.Min(left, most);
            string name = isOne ? Path.GetFileName(image.Path) : ExtentName(image.Path, isFlat, isSplit, number);
            BlockDriver file = isOne ? image.File : image.CreateExtent($"extents.{number - 1}", name);
            try
            {
                if (isFlat) await file.ResizeAsync(bytes).ConfigureAwait(false);
                else await WriteSparseAsync(file, bytes, isStream, options.Bool("zeroed_grain")).ConfigureAwait(false);
                await file.FlushAsync().ConfigureAwait(false);
            }
            finally { if (!isOne) await file.DisposeAsync().ConfigureAwait(false); }
            lines.Append(CultureInfo.InvariantCulture,
                $"RW {bytes / SectorSize} {(isFlat ? "FLAT" : "SPARSE")} \"{name}\"{(isFlat ? " 0" : "")}\n");
            left -= bytes;
        }
        byte[] descriptor = Encoding.UTF8.GetBytes(Describe(image, subformat, adapter, lines.ToString()));
        if (isOne && descriptor.Length > DescriptorSectors * SectorSize)
            throw image.Error("the descriptor is too long; give a shorter backing_file");
        await image.File.WriteAsync(isOne ? SectorSize : 0, new ScatterList(descriptor)).ConfigureAwait(false);
        await image.File.FlushAsync().ConfigureAwait(false);
    }

    /// <summary>a.vmdk has a-flat.vmdk, or a-s001.vmdk and a-f001.vmdk.</summary>
    static string ExtentName(string path, bool isFlat, bool isSplit, int number)
    {
        string name = Path.GetFileNameWithoutExtension(path), extension = Path.GetExtension(path);
        return isSplit ? $"{name}-{(isFlat ? 'f' : 's')}{number:000}{extension}" : $"{name}-flat{extension}";
    }

    /// <summary>Header, room for the descriptor, a grain directory with its tables, and both again.</summary>
    static async ValueTask WriteSparseAsync(BlockDriver file, long bytes, bool isStream, bool hasZeroGrains)
    {
        long grains = (bytes / SectorSize + GrainSectors - 1) / GrainSectors;
        long tables = (grains + EntriesPerTable - 1) / EntriesPerTable;
        const long tableSectors = EntriesPerTable * sizeof(uint) / SectorSize;
        long directorySectors = (tables * sizeof(uint) + SectorSize - 1) / SectorSize;
        long redundant = 1 + DescriptorSectors, copy = redundant + directorySectors + tables * tableSectors;
        long end = copy + directorySectors + tables * tableSectors;
        var header = new VmdkHeader
        {
            Version = isStream ? 3u : hasZeroGrains ? 2u : 1u,
            Flags = VmdkHeader.NewLineTest | VmdkHeader.Redundant
                | (isStream ? VmdkHeader.Compressed | VmdkHeader.Markers : 0)
                | (hasZeroGrains ? VmdkHeader.ZeroGrains : 0),
            Capacity = (ulong)(bytes / SectorSize), GrainSize = GrainSectors, EntriesPerTable = EntriesPerTable,
            RedundantDirectory = (ulong)redundant, Directory = (ulong)copy,
            Overhead = (ulong)((end + GrainSectors - 1) / GrainSectors * GrainSectors),
            Compression = isStream ? (ushort)1 : (ushort)0,
        };
        await file.WriteAsync(0, new ScatterList(header.ToBytes())).ConfigureAwait(false);
        foreach (long at in (long[])[redundant, copy])
        {
            var directory = new byte[directorySectors * SectorSize];
            for (int i = 0; i < tables; i++)
                BinaryPrimitives.WriteUInt32LittleEndian(directory.AsSpan(i * sizeof(uint)),
                    (uint)(at + directorySectors + i * tableSectors));
            await file.WriteAsync(at * SectorSize, new ScatterList(directory)).ConfigureAwait(false);
        }
        await file.WriteAsync((long)header.Overhead * SectorSize - 1, new ScatterList(new byte[1]))
            .ConfigureAwait(false);
    }

    static string Describe(NewImage image, string subformat, string adapter, string extents)
    {
        Properties options = image.Options;
        string? parent = options.Text("backing_file");
        int heads = adapter == "ide" ? 16 : 255;
        string hardware = options.Bool("compat6") ? "6"
            : options.Text("hwversion") is { } given and not "undefined" ? given : "4";
        string text = $"""
            # Disk DescriptorFile
            version=1
            CID={Random.Shared.Next():x8}
            parentCID={(parent == null ? VmdkDescriptor.NoParent : ParentCid(image, parent))}
            createType="{subformat}"
            {(parent == null ? "" : $"parentFileNameHint=\"{parent}\"\n")}
            # Extent description
            {extents}
            # The Disk Data Base
            #DDB

            ddb.virtualHWVersion = "{hardware}"
            ddb.geometry.cylinders = "{image.Size / (63L * heads * SectorSize)}"
            ddb.geometry.heads = "{heads}"
            ddb.geometry.sectors = "63"
            ddb.adapterType = "{adapter}"
            ddb.toolsVersion = "{options.Text("toolsversion") ?? "2147483647"}"

            """;
        return text;
    }

    /// <summary>The parent's content id, so that its changes are seen.</summary>
    static string ParentCid(NewImage image, string parent)
    {
        string path = BlockFactory.RelativeTo(image.Path, parent);
        byte[] head;
        try
        {
            using var file = new BinaryReader(System.IO.File.OpenRead(path));
            head = file.ReadBytes(VmdkDescriptor.MaxBytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw image.Error($"Could not open '{path}': {e.Message}");
        }
        if (head.Length >= VmdkHeader.Size && VmdkHeader.ReadFrom(head, out _) is { } header)
            head = head[(int)Math.Min(head.Length, (long)header.DescriptorOffset * SectorSize)..];
        return VmdkDescriptor.Parse(head, out _)?.Cid ?? throw image.Error("Invalid parent: it is no VMDK image");
    }
}
