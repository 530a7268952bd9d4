using Iced.Intel;

namespace Qkvm.Accel.Tcg.Thunks;

// SAFETY: writes what the host runs on the registers' area that it is given, all of which exists.
/// <summary>An AVX-512 instruction on the operands of a frame (<see cref="EvexFrame"/>, in rdi): operand n goes to
/// vector register n + 1, mask register n + 2 or r10, and what the instruction writes goes back; the mask is k1, memory
/// the frame's own.</summary>
static class EvexThunkWriter
{
    /// <summary>Encodes, and fills in all of the form but its address.</summary>
    public static unsafe byte[] Write(in Instruction guest, ref EvexForm form)
    {
        Instruction x = ThunkBytes.Rewrite(guest, Register.R8);
        InstructionInfo info = new InstructionInfoFactory().GetInfo(guest);
        var bytes = new ThunkBytes();
        form.Access = EvexForm.AccessOf(guest);
        if (form.Access != EvexAccess.None) Describe(guest, ref form);
        if (VectorThunkWriter.UsesMxcsr(x.Mnemonic)) form.Traits |= ThunkTraits.Mxcsr;
        if (x.RflagsModified != 0) form.Traits |= ThunkTraits.WritesFlags;

        // ldmxcsr
        if ((form.Traits & ThunkTraits.Mxcsr) != 0)
            bytes.Emit(0x0F, 0xAE, 0x97, EvexFrame.Mxcsr & 0xFF, EvexFrame.Mxcsr >> 8, 0, 0);
        // lea r8, [rdi + Memory]
        bytes.Emit(0x4C, 0x8D, 0x87, EvexFrame.Memory & 0xFF, EvexFrame.Memory >> 8, 0, 0);
        if (guest.HasOpMask)
        {
            bytes.Emit(Instruction.Create(Code.VEX_Kmovq_kr_km64, Register.K1, Place(EvexFrame.Mask)));
            x.OpMask = Register.K1;
        }
        for (int i = 0; i < x.OpCount; i++)
        {
            bool isWritten = info.GetOpAccess(i) is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite
                or OpAccess.ReadCondWrite;
            if (x.GetOpKind(i) == OpKind.Memory && isWritten) form.Traits |= ThunkTraits.Stores;
            if (x.GetOpKind(i) != OpKind.Register) continue;
            form.Written[i] = (byte)(isWritten ? 1 : 0);
            x.SetOpRegister(i, Load(bytes, x.GetOpRegister(i), i, x.Mnemonic, out EvexOperand kind));
            form.Kinds[i] = (byte)kind;
        }
        bytes.Emit(x);
        if ((form.Traits & ThunkTraits.WritesFlags) != 0) bytes.Emit(ThunkBytes.TakeFlags);
        for (int i = 0; i < x.OpCount; i++)
            if (form.Written[i] != 0) Store(bytes, i, (EvexOperand)form.Kinds[i]);
        // stmxcsr
        if ((form.Traits & ThunkTraits.Mxcsr) != 0)
            bytes.Emit(0x0F, 0xAE, 0x9F, EvexFrame.Mxcsr & 0xFF, EvexFrame.Mxcsr >> 8, 0, 0);
        bytes.Emit(0xC5, 0xF8, 0x77);                               // vzeroupper
        bytes.Emit(0xC3);
        return bytes.ToArray();
    }

    static MemoryOperand Place(int at) => new(Register.RDI, at);

    /// <summary>Sizes of the memory operand and of the elements that bits of the mask stand for.</summary>
    static void Describe(in Instruction x, ref EvexForm form)
    {
        OpCodeInfo op = x.Code.ToOpCode();
        MemorySize broadcast = op.BroadcastMemorySize;
        int size = x.MemorySize.GetSize(), element = broadcast != MemorySize.Unknown ? broadcast.GetSize()
            : op.MemorySize.GetElementSize();
        (form.MemorySize, form.Element) = ((byte)size, (byte)(element == 0 || element > size ? size : element));
        form.MaskBits = (byte)(x.IsBroadcast ? op.MemorySize.GetSize() / form.Element
            : x.Op0Kind == OpKind.Register && EvexForm.IsRepetition(x.Mnemonic.ToString())
            ? x.Op0Register.GetSize() / form.Element : 0);
        if (MustAlign(x.Mnemonic)) form.AlignmentMask = (byte)(size - 1);
    }

    /// <summary>Intel SDM vol. 2, exception type 1.</summary>
    public static bool MustAlign(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa32 or Mnemonic.Vmovdqa64
        or Mnemonic.Vmovntps or Mnemonic.Vmovntpd or Mnemonic.Vmovntdq or Mnemonic.Vmovntdqa;

    static Register Load(ThunkBytes bytes, Register register, int number, Mnemonic mnemonic, out EvexOperand kind)
    {
        MemoryOperand from = Place(number * EvexFrame.Slot);
        if (register.IsGPR())
        {
            kind = EvexOperand.General;
            bytes.Emit(Instruction.Create(Code.Mov_r64_rm64, Register.R10, from));
            return register.GetSize() == 8 ? Register.R10 : Register.R10D;
        }
        if (register.IsK())
        {
            kind = mnemonic is Mnemonic.Vp2intersectd or Mnemonic.Vp2intersectq ? EvexOperand.MaskPair
                : EvexOperand.Mask;
            Register mask = Register.K2 + number;
            bytes.Emit(Instruction.Create(Code.VEX_Kmovq_kr_km64, mask, from));
            return mask;
        }
        kind = EvexOperand.Vector;
        bytes.Emit(Instruction.Create(Code.EVEX_Vmovdqu64_zmm_k1z_zmmm512, Register.ZMM1 + number, from));
        return (register.IsXMM() ? Register.XMM1 : register.IsYMM() ? Register.YMM1 : Register.ZMM1) + number;
    }

    static void Store(ThunkBytes bytes, int number, EvexOperand kind)
    {
        int at = number * EvexFrame.Slot;
        switch (kind)
        {
            case EvexOperand.General:
                bytes.Emit(Instruction.Create(Code.Mov_rm64_r64, Place(at), Register.R10));
                break;
            case EvexOperand.Vector:
                bytes.Emit(Instruction.Create(Code.EVEX_Vmovdqu64_zmmm512_k1z_zmm, Place(at), Register.ZMM1 + number));
                break;
            default:
                bytes.Emit(Instruction.Create(Code.VEX_Kmovq_m64_kr, Place(at), Register.K2 + number));
                if (kind == EvexOperand.MaskPair)
                    bytes.Emit(Instruction.Create(Code.VEX_Kmovq_m64_kr, Place(at + sizeof(ulong)),
                        Register.K3 + number));
                break;
        }
    }
}
