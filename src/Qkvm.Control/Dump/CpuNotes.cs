using System.Buffers.Binary;
using Qkvm.Core.Accel;
using static Qkvm.Core.Accel.CpuRegisters;

namespace Qkvm.Control.Dump;

/// <summary>The notes of a dump: of each vCPU NT_PRSTATUS as in the core of a Linux program, then its state as QEMU
/// writes it, which `crash` reads. System V ABI, "Note Section"; Linux' struct elf_prstatus.</summary>
static class CpuNotes
{
    const uint Status = 1, QemuState = 0;

    // struct elf_prstatus: where the process number and the registers stand
    const int StatusBytes64 = 336, Pid64 = 32, Registers64 = 112, StatusBytes32 = 144, Pid32 = 24, Registers32 = 72;

    const int QemuStateBytes = 440;
    const uint KernelGsBase = 0xC0000102;

    // their numbers in CpuRegisters.General
    const int Rax = 0, Rcx = 1, Rdx = 2, Rbx = 3, Rsp = 4, Rbp = 5, Rsi = 6, Rdi = 7;

    static readonly int[] QemuGeneral = [Rax, Rbx, Rcx, Rdx, Rsi, Rdi, Rsp, Rbp, 8, 9, 10, 11, 12, 13, 14, 15];
    static readonly int[] QemuSegments = [Cs, Ds, Es, Fs, Gs, Ss, Ldtr, Tr];

    /// <param name="is64Bit">The form of NT_PRSTATUS.</param>
    public static byte[] Of(IReadOnlyList<CpuRegisters> cpus, bool is64Bit)
    {
        var notes = new MemoryStream();
        for (int i = 0; i < cpus.Count; i++)
            Add(notes, "CORE", Status, is64Bit ? Status64(cpus[i], i + 1) : Status32(cpus[i], i + 1));
        foreach (CpuRegisters cpu in cpus) Add(notes, "QEMU", QemuState, State(cpu));
        return notes.ToArray();
    }

    static void Add(Stream notes, string owner, uint type, byte[] description)
    {
        const int Alignment = 4;
        Span<byte> header = stackalloc byte[12 + 8];               // and the owner's name, filled up with zeros
        header.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(header, owner.Length + 1);
        BinaryPrimitives.WriteInt32LittleEndian(header[4..], description.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], type);
        System.Text.Encoding.ASCII.GetBytes(owner, header[12..]);
        notes.Write(header);
        notes.Write(description);
        notes.Write(new byte[-description.Length & (Alignment - 1)]);
    }

    static byte[] Status64(CpuRegisters cpu, int number)
    {
        ulong[] g = cpu.General;
        SegmentRegister[] s = cpu.Segments;
        ReadOnlySpan<ulong> registers =
        [
            g[15], g[14], g[13], g[12], g[Rbp], g[Rbx], g[11], g[10], g[9], g[8], g[Rax], g[Rcx], g[Rdx], g[Rsi],
            g[Rdi], g[Rax], cpu.Rip, s[Cs].Selector, cpu.Rflags, g[Rsp], s[Ss].Selector, s[Fs].Base, s[Gs].Base,
            s[Ds].Selector, s[Es].Selector, s[Fs].Selector, s[Gs].Selector,
        ];
        var status = new byte[StatusBytes64];
        BinaryPrimitives.WriteInt32LittleEndian(status.AsSpan(Pid64), number);
        for (int i = 0; i < registers.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(status.AsSpan(Registers64 + i * 8), registers[i]);
        return status;
    }

    static byte[] Status32(CpuRegisters cpu, int number)
    {
        ulong[] g = cpu.General;
        SegmentRegister[] s = cpu.Segments;
        ReadOnlySpan<ulong> registers =
        [
            g[Rbx], g[Rcx], g[Rdx], g[Rsi], g[Rdi], g[Rbp], g[Rax], s[Ds].Selector, s[Es].Selector, s[Fs].Selector,
            s[Gs].Selector, g[Rax], cpu.Rip, s[Cs].Selector, cpu.Rflags, g[Rsp], s[Ss].Selector,
        ];
        var status = new byte[StatusBytes32];
        BinaryPrimitives.WriteInt32LittleEndian(status.AsSpan(Pid32), number);
        for (int i = 0; i < registers.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(status.AsSpan(Registers32 + i * 4), (uint)registers[i]);
        return status;
    }

    /// <summary>Version 1: general registers, segments, tables, control registers, and the kernel's GS base.</summary>
    static byte[] State(CpuRegisters cpu)
    {
        var state = new byte[QemuStateBytes];
        int at = 0;
        Add32(1);
        Add32(QemuStateBytes);
        foreach (int i in QemuGeneral) Add64(cpu.General[i]);
        Add64(cpu.Rip);
        Add64(cpu.Rflags);
        foreach (int i in QemuSegments) Segment(cpu.Segments[i]);
        Segment(new SegmentRegister { Base = cpu.Gdtr.Base, Limit = cpu.Gdtr.Limit });
        Segment(new SegmentRegister { Base = cpu.Idtr.Base, Limit = cpu.Idtr.Limit });
        foreach (ulong control in new[] { cpu.Cr0, 0UL, cpu.Cr2, cpu.Cr3, cpu.Cr4 }) Add64(control);
        Add64(cpu.Msrs.GetValueOrDefault(KernelGsBase));
        return state;

        void Segment(in SegmentRegister segment)
        {
            const int AccessShift = 8;                             // in the second half of a descriptor
            Add32(segment.Selector);
            Add32(segment.Limit);
            Add32((uint)segment.Access << AccessShift);
            Add32(0);
            Add64(segment.Base);
        }

        void Add32(uint value) => BinaryPrimitives.WriteUInt32LittleEndian(state.AsSpan((at += 4) - 4), value);
        void Add64(ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(state.AsSpan((at += 8) - 8), value);
    }
}
