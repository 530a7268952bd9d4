using Iced.Intel;
using Qkvm.Host;

namespace Qkvm.Accel.Tcg.Thunks;

/// <summary>Collects encoded instructions of one thunk.</summary>
sealed class ThunkBytes : CodeWriter
{
    readonly List<byte> _bytes = [];
    readonly Encoder _encoder;

    public ThunkBytes() => _encoder = Encoder.Create(64, this);

    public override void WriteByte(byte value) => _bytes.Add(value);

    public void Emit(in Instruction x) => _encoder.Encode(x, 0);

    public void Emit(params ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes) _bytes.Add(value);
    }

    /// <summary>AX: flags, as <see cref="Thunk.EFlags"/> takes them. The rest of RAX changes.</summary>
    public static ReadOnlySpan<byte> TakeFlags => s_hasLahf
        ? [0x9F, 0x0F, 0x90, 0xC0]                                  // lahf; seto al
        : [0x9C, 0x58, 0x88, 0xC4, 0x0F, 0x90, 0xC0];               // pushfq; pop rax; mov ah, al; seto al

    static readonly bool s_hasLahf = HostFeatures.Current.Has("lahf-lm");

    public byte[] ToArray() => [.. _bytes];

    /// <summary>The guest's instruction with 64-bit code around it and a plain pointer for its memory
    /// operand.</summary>
    public static Instruction Rewrite(in Instruction guest, Register memory)
    {
        Instruction x = guest;
        x.CodeSize = CodeSize.Code64;
        x.HasRepPrefix = x.HasRepnePrefix = x.HasLockPrefix = false;
        x.SegmentPrefix = Register.None;
        (x.MemoryBase, x.MemoryIndex, x.MemoryIndexScale) = (memory, Register.None, 1);
        (x.MemoryDisplacement64, x.MemoryDisplSize) = (0, 0);
        return x;
    }
}
