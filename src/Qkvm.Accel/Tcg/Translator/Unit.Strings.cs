using Iced.Intel;

namespace Qkvm.Accel.Tcg.Translator;

// SAFETY: reads the copy of the guest's page, of two pages' size, at offsets that decoding has checked.
enum StringKind : byte
{
    Move, Store, Load, Compare, Scan,
}

/// <summary>A string instruction taken apart. Intel SDM vol. 1, section 7.3.9.</summary>
readonly struct StringForm
{
    public readonly StringKind Kind;

    /// <summary>Bytes of an element, and of RSI, RDI and RCX.</summary>
    public readonly int Size, AddressSize;

    /// <summary>What RSI counts in; RDI always counts in ES.</summary>
    public readonly int Segment;
    public readonly bool IsRepeated;

    /// <summary>Of comparisons: goes on while equal; otherwise while different.</summary>
    public readonly bool WhileEqual;

    public StringForm(in Instruction x)
    {
        Kind = KindOf(x.Code) ?? throw new ArgumentException($"{x.Code} is no string instruction");
        Size = x.MemorySize.GetSize();
        OpKind first = x.Op0Kind is OpKind.Register ? x.Op1Kind : x.Op0Kind;
        AddressSize = first switch
        {
            OpKind.MemorySegSI or OpKind.MemoryESDI => 2,
            OpKind.MemorySegESI or OpKind.MemoryESEDI => 4,
            _ => 8,
        };
        Segment = Unit.SegmentOf(x);
        IsRepeated = x.HasRepPrefix || x.HasRepnePrefix;
        WhileEqual = x.HasRepPrefix;
    }

    public bool HasSource => Kind is StringKind.Move or StringKind.Load or StringKind.Compare;
    public bool HasDestination => Kind != StringKind.Load;
    public bool Writes => Kind is StringKind.Move or StringKind.Store;
    public bool Compares => Kind is StringKind.Compare or StringKind.Scan;

    public static StringKind? KindOf(Code code)
    {
        switch (code)
        {
            case Code.Movsb_m8_m8 or Code.Movsw_m16_m16 or Code.Movsd_m32_m32
                or Code.Movsq_m64_m64: return StringKind.Move;
            case Code.Stosb_m8_AL or Code.Stosw_m16_AX or Code.Stosd_m32_EAX
                or Code.Stosq_m64_RAX: return StringKind.Store;
            case Code.Lodsb_AL_m8 or Code.Lodsw_AX_m16 or Code.Lodsd_EAX_m32
                or Code.Lodsq_RAX_m64: return StringKind.Load;
            case Code.Cmpsb_m8_m8 or Code.Cmpsw_m16_m16 or Code.Cmpsd_m32_m32
                or Code.Cmpsq_m64_m64: return StringKind.Compare;
            case Code.Scasb_AL_m8 or Code.Scasw_AX_m16 or Code.Scasd_EAX_m32
                or Code.Scasq_RAX_m64: return StringKind.Scan;
            default: return null;
        }
    }
}

// String instructions: single ones have memory operands as others have them, repeated ones look into the TLB
// themselves.
sealed unsafe partial class Unit
{
    const int Rcx = 1, Rsi = 6, Rdi = 7;

    Treatment TreatString(in Instruction x)
    {
        var form = new StringForm(x);
        if (form.HasSource && !Mode.CanAccess(form.Segment) || form.HasDestination && !Mode.CanAccess(Seg.Es))
            return Treatment.Interpret;
        if (!form.IsRepeated) return Treatment.String;
        // Downwards, and what nobody repeats.
        if (Mode.GoesDown || form.Kind == StringKind.Load || Mode.Is64 && form.AddressSize == 4)
            return Treatment.Interpret;
        return Treatment.RepeatedString;
    }

    void AddStringAccesses(int i, ref Step step, Span<int> lastWrite, int lastExit, bool careful)
    {
        var form = new StringForm(step.X);
        var access = new Access
        {
            Index = Access.None, Size = form.Size, BitIndex = -1, IsShort = form.AddressSize == 4,
                IsWord = form.AddressSize == 2,
        };
        if (form.HasSource)
        {
            (access.Base, access.FaultSegment, access.Segment) =
                (Rsi, (byte)form.Segment, Mode.HasBase(form.Segment) ? form.Segment : -1);
            step.Access = Add(access, i, lastWrite, lastExit, careful);
        }
        if (!form.HasDestination) return;
        (access.Base, access.FaultSegment, access.Segment) = (Rdi, Seg.Es, Mode.HasBase(Seg.Es) ? Seg.Es : -1);
        access.IsWrite = form.Writes;
        step.StackAccess = Add(access, i, lastWrite, lastExit, careful);
    }

    /// <summary>General registers that a string instruction moves on or loads, by number.</summary>
    static int WrittenByString(in Instruction x)
    {
        var form = new StringForm(x);
        return (form.HasSource ? 1 << Rsi : 0) | (form.HasDestination ? 1 << Rdi : 0) | (form.IsRepeated ? 1 << Rcx : 0)
            | (form.Kind == StringKind.Load ? 1 : 0);
    }
}
