using System.Runtime.InteropServices;
using Iced.Intel;
using Qkvm.Host;
using static Iced.Intel.AssemblerRegisters;

namespace Qkvm.Accel.Tests;

/// <summary>This very processor as the judge: runs one unprivileged instruction natively, with registers, flags and (if
/// wanted) x87 and vector state from <see cref="State"/>, and puts there what it leaves. All of it lies below 2
/// GiB.</summary>
/// <remarks>The caller keeps instructions from faulting and from jumping. RSP should point into <see cref="Scratch"/>.
/// Flags, modes and control words may be anything when the instruction is done: the way out stores state without
/// reading DF, aligns all that it touches for AC, waits for no x87 exception, and takes the host's own RFLAGS, MXCSR
/// and x87 state back before anything else runs. TF would trap in it: <see cref="SequenceOracle"/> knows how to go
/// on.</remarks>
sealed unsafe partial class HostOracle : IDisposable
{
    public const int ScratchSize = 0x4000, PageSize = 0x1000;
    const int Map32Bit = 0x40, DataSize = 0x8000, SlotOffset = 0x400, ExitOffset = 0x500, Enter32Offset = 0x800,
        ExtraOffset = 0x1000;
    const int StateAt = 0, XsaveAt = 0x200, SharedAt = 0xE00, HostStackAt = 0xF00, HostVectorsAt = 0x4000,
        LowStackTop = 0x3F00;

    /// <summary>Bytes from <see cref="Executable"/> on that are the oracle's own code, and its caller's at
    /// <see cref="AddCode"/>.</summary>
    public const int CodeSize = 0x2000;
    const ushort UserCode32 = 0x23, UserCode64 = 0x33, UserData = 0x2B;

    readonly int _fd;
    readonly byte* _code, _data;
    readonly bool _vectors;
    readonly int _bits;

    /// <summary>What goes in and comes out.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 0xE00)]
    public struct Registers
    {
        [FieldOffset(0)] public fixed ulong Gpr[16];
        [FieldOffset(128)] public ulong Flags;

        /// <summary>In the host's standard format of XSAVE; used if the oracle was made for vectors.</summary>
        [FieldOffset(XsaveAt)] public fixed byte Xsave[0xC00];
    }

    public HostOracle(int bits = 64, bool vectors = false)
    {
        (_bits, _vectors) = (bits, vectors);
        _fd = Libc.memfd_create("oracle", Libc.MfdCloexec);
        if (Libc.ftruncate(_fd, CodeSize) < 0) throw new HostException("no room for the oracle's code", Libc.Errno);
        _code = Map(CodeSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, _fd);
        Executable = Map(CodeSize, Libc.ProtRead | Libc.ProtExec, Libc.MapShared | Map32Bit, _fd);
        _data = Map(DataSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapPrivate | Libc.MapAnonymous | Map32Bit, -1);
        Scratch = Map(ScratchSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapPrivate | Libc.MapAnonymous | Map32Bit, -1);
        if (bits == 64) Emit64();
        else Emit32();
    }

    /// <summary>Where native code runs; the instruction under test is at a fixed place in it.</summary>
    public byte* Executable { get; }

    /// <summary>The linear address of the instruction under test.</summary>
    public ulong InstructionAddress => (ulong)Executable + SlotOffset;

    /// <summary>A jump to here ends what the instruction under test began.</summary>
    public ulong ExitAddress => (ulong)Executable + ExitOffset;

    /// <summary>Memory for operands, page aligned.</summary>
    public byte* Scratch { get; }

    public Registers* State => (Registers*)(_data + StateAt);

    /// <summary>256 bytes below 2 GiB for whoever runs code here.</summary>
    public byte* Shared => _data + SharedAt;

    /// <summary>More 64-bit code beside the oracle's.</summary>
    public byte* AddCode(int offset, int room, Action<Assembler> code)
    {
        Place(64, ExtraOffset + offset, room, code);
        return Executable + ExtraOffset + offset;
    }

    /// <summary>Runs the instruction; <see cref="State"/> is input and output.</summary>
    public void Run(ReadOnlySpan<byte> instruction)
    {
        instruction.CopyTo(new Span<byte>(_code + SlotOffset, 16));
        byte* after = _code + SlotOffset + instruction.Length;
        *after = 0xE9;                                              // jmp rel32
        *(int*)(after + 1) = ExitOffset - (SlotOffset + instruction.Length + 5);
        SignalSet before = Hold();
        ((delegate* unmanaged<void>)Executable)();
        EndOfHolding(before);
    }

    public void Dispose()
    {
        Libc.munmap(_code, CodeSize);
        Libc.munmap(Executable, CodeSize);
        Libc.munmap(_data, DataSize);
        Libc.munmap(Scratch, ScratchSize);
        Libc.close(_fd);
    }

    static byte* Map(int size, int protection, int flags, int fd)
    {
        byte* at = (byte*)Libc.mmap(null, (nuint)size, protection, flags, fd, 0);
        return at != (byte*)-1 ? at : throw new HostException("no memory for the oracle", Libc.Errno);
    }

    static AssemblerRegister64[] Wide => [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    static AssemblerRegister32[] Narrow => [eax, ecx, edx, ebx, esp, ebp, esi, edi];

    ulong Data(int offset) => (ulong)_data + (ulong)offset;

    void Emit64()
    {
        Place(64, 0, SlotOffset, a =>
        {
            SaveHost(a);
            LoadVectors(a);
            a.mov(rsp, Data(128));
            a.popfq();
            for (int i = 0; i < 16; i++) a.mov(Wide[i], __qword_ptr[Data(i * 8)]);
            a.jmp((ulong)Executable + SlotOffset);
        });
        Place(64, ExitOffset, Enter32Offset - ExitOffset, a =>
        {
            for (int i = 0; i < 16; i++) a.mov(__qword_ptr[Data(i * 8)], Wide[i]);
            a.mov(rsp, Data(128 + 8));
            a.pushfq();
            SaveVectors(a);
            RestoreHost(a);
        });
    }

    /// <summary>Through a far jump to the 32-bit code segment of every Linux process, and back.</summary>
    void Emit32()
    {
        ulong enter = (ulong)Executable + Enter32Offset, leave = enter + 0x400;
        Place(64, 0, SlotOffset, a =>
        {
            SaveHost(a);
            LoadVectors(a);
            a.mov(eax, UserData);
            a.mov(ds, eax);
            a.mov(es, eax);
            a.mov(rsp, Data(LowStackTop));
            a.push(UserCode32);
            a.mov(eax, (uint)enter);
            a.push(rax);
            a.db(0x48, 0xCB);                                       // retfq
        });
        Place(32, Enter32Offset, 0x200, a =>
        {
            a.mov(esp, (uint)Data(128));
            a.popfd();
            for (int i = 0; i < 8; i++) a.mov(Narrow[i], __dword_ptr[Data(i * 8)]);
            a.jmp((ulong)Executable + SlotOffset);
        });
        Place(32, ExitOffset, Enter32Offset - ExitOffset, a =>
        {
            for (int i = 0; i < 8; i++) a.mov(__dword_ptr[Data(i * 8)], Narrow[i]);
            a.mov(esp, (uint)Data(128 + 4));
            a.pushfd();
            a.mov(esp, (uint)Data(LowStackTop));
            a.push(UserCode64);
            a.push((uint)leave);
            a.retf();
        });
        Place(64, Enter32Offset + 0x400, 0x200, a =>
        {
            a.xor(eax, eax);
            a.mov(ds, eax);
            a.mov(es, eax);
            SaveVectors(a);
            RestoreHost(a);
        });
    }

    void SaveHost(Assembler a)
    {
        foreach (AssemblerRegister64 kept in (AssemblerRegister64[])[rbx, rbp, r12, r13, r14, r15]) a.push(kept);
        a.pushfq();
        a.mov(__qword_ptr[Data(HostStackAt)], rsp);
        if (_vectors) Save(a, HostVectorsAt);
    }

    void RestoreHost(Assembler a)
    {
        if (_vectors) Restore(a, HostVectorsAt);
        a.mov(rsp, __qword_ptr[Data(HostStackAt)]);
        a.popfq();
        foreach (AssemblerRegister64 kept in (AssemblerRegister64[])[r15, r14, r13, r12, rbp, rbx]) a.pop(kept);
        a.ret();
    }

    void LoadVectors(Assembler a)
    {
        if (_vectors) Restore(a, XsaveAt);
    }

    void SaveVectors(Assembler a)
    {
        if (_vectors) Save(a, XsaveAt);
    }

    void Save(Assembler a, int offset)
    {
        Components(a);
        if (HasXsave) a.xsave(__byte_ptr[Data(offset)]);
        else a.fxsave(__byte_ptr[Data(offset)]);
    }

    void Restore(Assembler a, int offset)
    {
        Components(a);
        if (HasXsave) a.xrstor(__byte_ptr[Data(offset)]);
        else a.fxrstor(__byte_ptr[Data(offset)]);
    }

    static void Components(Assembler a)
    {
        a.mov(eax, (uint)Saved);
        a.xor(edx, edx);
    }

    void Place(int bits, int offset, int room, Action<Assembler> code)
    {
        var assembler = new Assembler(bits);
        code(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), (ulong)Executable + (ulong)offset);
        if (stream.Length > room)
            throw new InvalidOperationException($"{stream.Length} bytes of code do not fit {room}");
        stream.ToArray().CopyTo(new Span<byte>(_code + offset, room));
    }
}
