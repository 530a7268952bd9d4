using Iced.Intel;

namespace Qkvm.Accel.Tcg.Thunks;

/// <summary>An x87 instruction between FXRSTOR64 and FXSAVE64 of the guest's area (rdi). Its exceptions stay pending in
/// the status word it leaves: nothing here waits for them.</summary>
static class X87ThunkWriter
{
    public static byte[] Write(in Instruction guest, out ThunkTraits traits, out byte memorySize)
    {
        traits = ThunkTraits.None;
        memorySize = 0;
        Instruction x = ThunkBytes.Rewrite(guest, Register.RSI);
        InstructionInfo info = new InstructionInfoFactory().GetInfo(x);
        for (int i = 0; i < x.OpCount; i++)
        {
            if (x.GetOpKind(i) != OpKind.Memory) continue;
            memorySize = (byte)x.MemorySize.GetSize();
            if (info.GetOpAccess(i) is OpAccess.Write or OpAccess.CondWrite) traits |= ThunkTraits.Stores;
        }
        var bytes = new ThunkBytes();
        if (x.RflagsRead != 0) traits |= ThunkTraits.ReadsFlags;
        if (x.RflagsModified != 0) traits |= ThunkTraits.WritesFlags;
        bytes.Emit(0x48, 0x0F, 0xAE, 0x0F);                         // fxrstor64 [rdi]
        // push rdx; popfq
        if ((traits & (ThunkTraits.ReadsFlags | ThunkTraits.WritesFlags)) != 0) bytes.Emit(0x52, 0x9D);
        bytes.Emit(x);
        if ((traits & ThunkTraits.WritesFlags) != 0) bytes.Emit(ThunkBytes.TakeFlags);
        bytes.Emit(0x48, 0x0F, 0xAE, 0x07);                         // fxsave64 [rdi]
        bytes.Emit(0xDB, 0xE3);                                     // fninit
        bytes.Emit(0x68, 0x80, 0x1F, 0, 0);                         // push 1F80h
        bytes.Emit(0x0F, 0xAE, 0x14, 0x24);                         // ldmxcsr [rsp]
        bytes.Emit(0x59, 0xC3);                                     // pop rcx; ret
        return bytes.ToArray();
    }
}
