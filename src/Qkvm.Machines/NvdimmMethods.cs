using System.Buffers.Binary;
using Qkvm.Core.Memory;

namespace Qkvm.Machines;

/// <summary>What the _DSM methods of NVDIMMs do: ACPI's code puts a call into a page of memory, writes the page's
/// address here, and finds the result in the page. Spec: Intel's "NVDIMM DSM Interface", revision 1.8, sections 3.4 to
/// 3.6; ACPI 6.5, section 9.20.8.</summary>
/// <param name="find">The NVDIMM of a handle, or null.</param>
sealed class NvdimmMethods(AddressSpace memory, Func<uint, Nvdimm?> find) : IRegisterBank
{
    public const ulong Port = 0x0A18, Size = 4;
    public const int PageSize = 4096;

    // Offsets of a call: handle, revision, function, arguments; of a result: its length, then what _DSM returns.
    internal const int Arguments = 12, Result = 4;
    const int Revision = 4, Function = 8, StatusLength = 4;
    const int LabelOffset = Arguments, LabelLength = Arguments + 4, LabelData = Arguments + 8;

    const uint Query = 0, LabelSize = 4, ReadLabels = 5, WriteLabels = 6;
    const uint Success = 0, Unsupported = 1, Missing = 2, Invalid = 3;
    const uint RootHandle = 0;

    /// <summary>Bytes of labels in a call: they stand behind offset and length.</summary>
    const uint MostAtOnce = PageSize - LabelData;

    readonly Dma _dma = new(memory);
    readonly byte[] _page = new byte[PageSize];                    // not migrated: used inside a write alone

    public ulong Read(ulong offset, int size) => 0;

    public void Write(ulong offset, int size, ulong value)
    {
        if (offset != 0 || size != sizeof(uint) || !_dma.Read(value, _page)) return;
        _dma.Write(value, _page.AsSpan(0, Call()));
    }

    /// <summary>Bytes of the result.</summary>
    int Call()
    {
        uint handle = Word(0), function = Word(Function);
        if (Word(Revision) != 1) return Return(Unsupported);
        if (handle == RootHandle) return Return(function == Query ? 0 : Unsupported);
        if (find(handle) is not { } nvdimm) return Return(function == Query ? 0 : Missing);
        bool hasLabels = nvdimm.LabelSize > 0;
        return function switch
        {
            Query => Return(hasLabels ? 1u << (int)Query | 1u << (int)LabelSize | 1u << (int)ReadLabels
                | 1u << (int)WriteLabels : 0),
            LabelSize when hasLabels => Return(Success, (uint)nvdimm.LabelSize,
                (uint)Math.Min(nvdimm.LabelSize, MostAtOnce)),
            ReadLabels when hasLabels => Get(nvdimm),
            WriteLabels when hasLabels => Set(nvdimm),
            _ => Return(Unsupported),
        };
    }

    int Get(Nvdimm nvdimm)
    {
        uint offset = Word(LabelOffset), length = Word(LabelLength);
        if (!IsWithin(nvdimm, offset, length)) return Return(Invalid);
        int end = Return(Success) + (int)length;
        nvdimm.Labels(offset, length).CopyTo(_page.AsSpan(Result + StatusLength));
        BinaryPrimitives.WriteUInt32LittleEndian(_page, (uint)end);
        return end;
    }

    int Set(Nvdimm nvdimm)
    {
        uint offset = Word(LabelOffset), length = Word(LabelLength);
        if (!IsWithin(nvdimm, offset, length)) return Return(Invalid);
        nvdimm.WriteLabels(offset, _page.AsSpan(LabelData, (int)length));
        return Return(Success);
    }

    static bool IsWithin(Nvdimm nvdimm, uint offset, uint length) =>
        length <= MostAtOnce && (ulong)offset + length <= nvdimm.LabelSize;

    uint Word(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_page.AsSpan(at));

    int Return(params ReadOnlySpan<uint> words)
    {
        int end = Result + words.Length * sizeof(uint);
        BinaryPrimitives.WriteUInt32LittleEndian(_page, (uint)end);
        for (int i = 0; i < words.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(_page.AsSpan(Result + i * sizeof(uint)), words[i]);
        return end;
    }
}
