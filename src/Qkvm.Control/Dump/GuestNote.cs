using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

namespace Qkvm.Control.Dump;

/// <summary>The note that a guest's kernel leaves for dumps: VMCOREINFO, lines of text by which `crash` and
/// makedumpfile know the kernel's structures. System V ABI, "Note Section".</summary>
/// <param name="Bytes">The whole note; empty: there is none.</param>
/// <param name="At">Where its text begins.</param>
readonly record struct GuestNote(byte[] Bytes, int At, int Length)
{
    const int HeaderBytes = 12, Alignment = 4;
    const uint Most = 1 << 20;                                     // bytes; Linux needs a page
    const string Owner = "VMCOREINFO\0", PhysicalBase = "NUMBER(phys_base)=";

    static readonly GuestNote s_none = new([], 0, 0);

    /// <summary>None where the guest tells of none, or of what is no such note in memory.</summary>
    public static GuestNote Of(IMachine machine)
    {
        IGuestNoteSource? source =
            machine.Tree.AllDevices.Select(node => node.Device).OfType<IGuestNoteSource>().FirstOrDefault();
        if (source is not { Note: (ulong address, uint length) } || length is < HeaderBytes or > Most) return s_none;
        var bytes = new byte[length];
        if (!new Dma(machine.Board.Memory).Read(address, bytes)) return s_none;
        uint name = BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            text = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4));
        if (name != Owner.Length || !Encoding.ASCII.GetBytes(Owner).AsSpan().SequenceEqual(
            bytes.AsSpan(HeaderBytes, Math.Min(Owner.Length, bytes.Length - HeaderBytes)))) return s_none;
        int at = HeaderBytes + Aligned(Owner.Length);
        if (at > bytes.Length || text > bytes.Length - at) return s_none;
        Array.Resize(ref bytes, at + Aligned((int)text));          // what follows belongs to no note
        return new GuestNote(bytes, at, (int)text);
    }

    /// <summary>Where the kernel lies beside where it was linked to, which it says; 0 unless it does.</summary>
    public long KernelOffset
    {
        get
        {
            foreach (string line in Encoding.ASCII.GetString(Bytes, At, Length).Split('\n'))
                if (line.StartsWith(PhysicalBase, StringComparison.Ordinal) && long.TryParse(
                    line.AsSpan(PhysicalBase.Length), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture,
                    out long offset))
                    return offset;
            return 0;
        }
    }

    static int Aligned(int length) => length + Alignment - 1 & -Alignment;
}
