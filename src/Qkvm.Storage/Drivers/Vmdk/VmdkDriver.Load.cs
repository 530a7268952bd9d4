using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Drivers.Vmdk;

/// <summary>Finds out what the image consists of.</summary>
public sealed partial class VmdkDriver
{
    protected override void Load()
    {
        byte[] head = ReadFile(0, VmdkHeader.Size);
        if (head.AsSpan().StartsWith("COWD"u8)) throw Bad("ESX's sparse extents are not supported");
        if (head.AsSpan().StartsWith("KDMV"u8)) LoadSparse(head);
        else LoadDescriptor();
        foreach (VmdkExtent extent in _extents)
        {
            if (extent is not VmdkSparseExtent sparse) continue;
            if (_grainSize != sparse.GrainBytes
                && _extents.Exists(other => other != extent && other is VmdkSparseExtent))
                throw Bad("its extents have grains of different sizes, which is not supported");
            _grainSize = (int)sparse.GrainBytes;
            if (sparse.Start % _grainSize != 0) throw Bad("an extent does not begin with a grain");
        }
        BlockDriver? backing = _openBacking(
            _descriptor.ParentCid == VmdkDescriptor.NoParent ? null : _descriptor.ParentFile);
        LieOver(backing);
        if (backing is VmdkDriver parent && parent._descriptor.Cid != _descriptor.ParentCid)
            throw Bad($"its parent's content has changed since: CID {parent._descriptor.Cid} is not "
                + _descriptor.ParentCid);
    }

    /// <summary>One file: the descriptor lies inside the extent.</summary>
    void LoadSparse(byte[] head)
    {
        VmdkHeader header = VmdkHeader.ReadFrom(head, out string wrong) ?? throw Bad(wrong);
        long bytes = Math.Min((long)header.DescriptorSize * SectorSize, VmdkDescriptor.MaxBytes);
        if (header.DescriptorOffset == 0 || bytes <= 0)
            throw Bad("it is an extent of another image: open its descriptor");
        _descriptorAt = (long)header.DescriptorOffset * SectorSize;
        _descriptor = VmdkDescriptor.Parse(ReadFile(_descriptorAt, (int)bytes), out wrong) ?? throw Bad(wrong);
        _extents.Add(Sparse(File, FileName, "", header, 0));
        _length = _extents[0].Length;
    }

    void LoadDescriptor()
    {
        int bytes = (int)Math.Min(File.Length, VmdkDescriptor.MaxBytes);
        _descriptor = VmdkDescriptor.Parse(ReadFile(0, bytes), out string wrong) ?? throw Bad(wrong);
        if (_descriptor.CreateType is not ("monolithicFlat" or "vmfs" or "vmfsSparse" or "seSparse"
            or "twoGbMaxExtentSparse" or "twoGbMaxExtentFlat"))
            throw Bad($"Unsupported image type '{_descriptor.CreateType}'");
        for (int i = 0; i < _descriptor.Extents.Count; i++) AddExtent($"extents.{i}", _descriptor.Extents[i]);
        if (_extents.Count == 0) throw Bad("its descriptor names no extents");
    }

    void AddExtent(string role, VmdkExtentLine line)
    {
        long bytes = line.Sectors * SectorSize;
        if (_length > long.MaxValue - bytes) throw Bad("its extents are too large");
        if (line.Type is not ("FLAT" or "SPARSE" or "ZERO" or "VMFS"))
            throw Bad($"Unsupported extent type '{line.Type}'");
        BlockDriver? node = line.File == null ? null : _openExtent(role, line.File);
        if (node != null)
        {
            Attach(role, node, BlockUse.Format(IsReadOnly));
            (node as IGrowable)?.AllowGrowth();
        }
        if (node == null || line.Type != "SPARSE")
            _extents.Add(new VmdkFlatExtent(node, line.File == null ? ""
                : Graph.BlockFactory.RelativeTo(FileName, line.File), line.Type, _length, bytes,
                line.Offset * SectorSize));
        else
        {
            var head = new byte[VmdkHeader.Size];
            ScatterLists.Wait(node.ReadAsync(0, new ScatterList(head)));
            VmdkHeader header = VmdkHeader.ReadFrom(head, out string wrong) ?? throw Bad($"{line.File}: {wrong}");
            if ((long)header.Capacity < line.Sectors) throw Bad($"{line.File}: it is smaller than the descriptor says");
            _extents.Add(Sparse(node, Graph.BlockFactory.NameOf(node), line.Type, header, _length));
        }
        _length += bytes;
    }

    /// <summary>A stream's directory stands behind its grains; a footer at the end, which is the header again, says
    /// where. "Stream-Optimized Compressed Sparse Extents".</summary>
    VmdkSparseExtent Sparse(BlockDriver file, string name, string type, VmdkHeader header, long start)
    {
        if (header.Directory == VmdkHeader.AtEnd)
        {
            var footer = new byte[VmdkHeader.Size];
            long at = file.Length / SectorSize * SectorSize - 2 * SectorSize;
            if (at < SectorSize) throw Bad("its footer is not there");
            ScatterLists.Wait(file.ReadAsync(at, new ScatterList(footer)));
            header = VmdkHeader.ReadFrom(footer, out string wrong) ?? throw Bad($"its footer: {wrong}");
            if (header.Directory == VmdkHeader.AtEnd) throw Bad("its footer names no grain directory");
            if (!IsReadOnly) throw Bad("a stream with a footer is complete and takes no writes; give read-only=on");
        }
        if (!IsReadOnly && header.Version == 3 && !header.IsCompressed)
            throw Bad("VMDK version 3 must be opened read only");
        return new VmdkSparseExtent(file, name, type, header, start, WriteBack);
    }
}
