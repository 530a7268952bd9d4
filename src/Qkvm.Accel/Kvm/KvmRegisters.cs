using Qkvm.Core.Accel;

namespace Qkvm.Accel.Kvm;

/// <summary>Between the kernel's structures and <see cref="CpuRegisters"/>. Documentation/virt/kvm/api.rst,
/// x86-64.</summary>
/// <remarks>SAFETY: each call's structure lies on the stack, and has the size that its request number names.</remarks>
static unsafe class KvmRegisters
{
    const int XsaveSize = 4096, DebugSize = 128;
    const int EventShadow = 11, EventNmiPending = 13, EventNmiMasked = 14, EventSmm = 24,
        EventSmmInsideNmi = 26;                                    // struct kvm_vcpu_events
    const int ShadowBySs = 2, ShadowBySti = 1;                     // KVM_X86_SHADOW_INT_MOV_SS is 1, _STI is 2
    public const uint Runnable = 0, Uninitialized = 1, Halted = 3; // KVM_MP_STATE_

    public static CpuRegisters Read(int vcpu, bool hasHyperV)
    {
        var r = new CpuRegisters();
        KvmRegs regs = Get<KvmRegs>(vcpu, KvmApi.GetRegs);
        KvmSregs sregs = Get<KvmSregs>(vcpu, KvmApi.GetSregs);
        (r.General[0], r.General[1], r.General[2], r.General[3]) = (regs.Rax, regs.Rcx, regs.Rdx, regs.Rbx);
        (r.General[4], r.General[5], r.General[6], r.General[7]) = (regs.Rsp, regs.Rbp, regs.Rsi, regs.Rdi);
        for (int i = 0; i < 8; i++) r.General[8 + i] = regs.High[i];
        (r.Rip, r.Rflags) = (regs.Rip, regs.Rflags);
        r.Segments[CpuRegisters.Es] = From(sregs.Es);
        r.Segments[CpuRegisters.Cs] = From(sregs.Cs);
        r.Segments[CpuRegisters.Ss] = From(sregs.Ss);
        r.Segments[CpuRegisters.Ds] = From(sregs.Ds);
        r.Segments[CpuRegisters.Fs] = From(sregs.Fs);
        r.Segments[CpuRegisters.Gs] = From(sregs.Gs);
        r.Segments[CpuRegisters.Ldtr] = From(sregs.Ldt);
        r.Segments[CpuRegisters.Tr] = From(sregs.Tr);
        r.Gdtr = new DescriptorTable { Base = sregs.Gdt.Base, Limit = sregs.Gdt.Limit };
        r.Idtr = new DescriptorTable { Base = sregs.Idt.Base, Limit = sregs.Idt.Limit };
        (r.Cr0, r.Cr2, r.Cr3, r.Cr4, r.Cr8) = (sregs.Cr0, sregs.Cr2, sregs.Cr3, sregs.Cr4, sregs.Cr8);
        (r.Efer, r.ApicBase, r.Cpl) = (sregs.Efer, sregs.ApicBase, sregs.Ss.Dpl & 3);

        byte* block = stackalloc byte[XsaveSize];
        Get(vcpu, KvmApi.GetXsave, block);
        r.Xsave = new ReadOnlySpan<byte>(block, XsaveSize).ToArray();
        ulong* xcr0 = FindXcr0(vcpu, block);
        r.Xcr0 = xcr0 != null ? *xcr0 : 1;
        Get(vcpu, KvmApi.GetDebugRegs, block);
        var debug = (ulong*)block;
        for (int i = 0; i < 4; i++) r.Debug[i] = debug[i];
        (r.Debug[6], r.Debug[7]) = (debug[4], debug[5]);
        Get(vcpu, KvmApi.GetVCpuEvents, block);
        int shadow = block[EventShadow];
        r.InterruptShadow = (byte)((shadow & 2) / 2 * ShadowBySti | (shadow & 1) * ShadowBySs);
        (r.NmiPending, r.NmiBlocked) = (block[EventNmiPending] != 0, block[EventNmiMasked] != 0);
        (r.InSmm, r.BlocksNmiAfterSmm) = (block[EventSmm] != 0, block[EventSmmInsideNmi] != 0);
        if (KvmMsrs.Read(vcpu, KvmMsrs.SmBase) is not 0 and var start) r.SmBase = (uint)start;
        uint state = Get<uint>(vcpu, KvmApi.GetMpState);
        (r.IsHalted, r.WaitsForSipi) = (state == Halted, state == Uninitialized);
        KvmMsrs.Read(vcpu, r, hasHyperV);
        return r;
    }

    /// <param name="hasOwnApic">The kernel has no local APIC, and knows no other state than running.</param>
    public static void Write(int vcpu, CpuRegisters r, bool hasHyperV, bool hasOwnApic)
    {
        // The local APIC's base and the mode must be there before what depends on them.
        KvmSregs sregs = Get<KvmSregs>(vcpu, KvmApi.GetSregs);
        sregs.Es = To(r.Segments[CpuRegisters.Es]);
        sregs.Cs = To(r.Segments[CpuRegisters.Cs]);
        sregs.Ss = To(r.Segments[CpuRegisters.Ss]);
        sregs.Ds = To(r.Segments[CpuRegisters.Ds]);
        sregs.Fs = To(r.Segments[CpuRegisters.Fs]);
        sregs.Gs = To(r.Segments[CpuRegisters.Gs]);
        sregs.Ldt = To(r.Segments[CpuRegisters.Ldtr]);
        sregs.Tr = To(r.Segments[CpuRegisters.Tr]);
        (sregs.Gdt.Base, sregs.Gdt.Limit, sregs.Idt.Base, sregs.Idt.Limit) =
            (r.Gdtr.Base, (ushort)r.Gdtr.Limit, r.Idtr.Base, (ushort)r.Idtr.Limit);
        (sregs.Cr0, sregs.Cr2, sregs.Cr3, sregs.Cr4, sregs.Cr8, sregs.Efer, sregs.ApicBase) =
            (r.Cr0, r.Cr2, r.Cr3, r.Cr4, r.Cr8, r.Efer, r.ApicBase);
        Set(vcpu, KvmApi.SetSregs, &sregs);
        var regs = new KvmRegs
        {
            Rax = r.General[0], Rcx = r.General[1], Rdx = r.General[2], Rbx = r.General[3],
            Rsp = r.General[4], Rbp = r.General[5], Rsi = r.General[6], Rdi = r.General[7], Rip = r.Rip,
                Rflags = r.Rflags,
        };
        for (int i = 0; i < 8; i++) regs.High[i] = r.General[8 + i];
        Set(vcpu, KvmApi.SetRegs, &regs);

        byte* block = stackalloc byte[XsaveSize];
        ulong* xcr0 = FindXcr0(vcpu, block);
        if (xcr0 != null)
        {
            *xcr0 = r.Xcr0;
            Set(vcpu, KvmApi.SetXcrs, block);
        }
        r.Xsave.AsSpan(0, Math.Min(r.Xsave.Length, XsaveSize)).CopyTo(new Span<byte>(block, XsaveSize));
        Set(vcpu, KvmApi.SetXsave, block);
        KvmMsrs.Write(vcpu, r, hasHyperV);
        new Span<byte>(block, DebugSize).Clear();
        var debug = (ulong*)block;
        for (int i = 0; i < 4; i++) debug[i] = r.Debug[i];
        (debug[4], debug[5]) = (r.Debug[6], r.Debug[7]);
        Set(vcpu, KvmApi.SetDebugRegs, block);
        Get(vcpu, KvmApi.GetVCpuEvents, block);
        block[EventShadow] =
            (byte)((r.InterruptShadow & ShadowBySti) * 2 | (r.InterruptShadow & ShadowBySs) / ShadowBySs);
        (block[EventNmiPending], block[EventNmiMasked]) =
            (r.NmiPending ? (byte)1 : (byte)0, r.NmiBlocked ? (byte)1 : (byte)0);
        (block[EventSmm], block[EventSmmInsideNmi]) = (r.InSmm ? (byte)1 : (byte)0, r.BlocksNmiAfterSmm ? (byte)1
            : (byte)0);
        Set(vcpu, KvmApi.SetVCpuEvents, block);
        KvmMsrs.Write(vcpu, KvmMsrs.SmBase, r.SmBase);             // a kernel without the mode has no such register
        uint state = hasOwnApic ? Runnable : r.WaitsForSipi ? Uninitialized : r.IsHalted ? Halted : Runnable;
        Set(vcpu, KvmApi.SetMpState, &state);
    }

    /// <summary>INIT. Intel SDM vol. 3, table 10-1.</summary>
    /// <param name="first">As they are after power-on.</param>
    public static void Initialize(CpuRegisters registers, CpuRegisters first)
    {
        const ulong cacheDisable = 1 << 30, notWriteThrough = 1 << 29, kept = cacheDisable | notWriteThrough;
        first.General.CopyTo(registers.General, 0);
        first.Segments.CopyTo(registers.Segments, 0);
        first.Debug.CopyTo(registers.Debug, 0);
        (registers.Gdtr, registers.Idtr, registers.Rip, registers.Rflags) =
            (first.Gdtr, first.Idtr, first.Rip, first.Rflags);
        registers.Cr0 = first.Cr0 & ~kept | registers.Cr0 & kept;
        (registers.Cr2, registers.Cr3, registers.Cr4, registers.Cr8, registers.Efer) =
            (first.Cr2, first.Cr3, first.Cr4, first.Cr8, first.Efer);
        (registers.Cpl, registers.InterruptShadow, registers.NmiBlocked, registers.NmiPending) = (0, 0, false, false);
    }

    /// <summary>struct kvm_xcrs: a count, flags, and pairs of number and value.</summary>
    static ulong* FindXcr0(int vcpu, byte* block)
    {
        Get(vcpu, KvmApi.GetXcrs, block);
        for (uint i = 0; i < Math.Min(*(uint*)block, 16); i++)
            if (*(uint*)(block + 8 + i * 16) == 0) return (ulong*)(block + 16 + i * 16);
        return null;
    }

    static SegmentRegister From(in KvmSegment s) => new()
    {
        Base = s.Base,
        Limit = s.Limit,
        Selector = s.Selector,
        Access = s.Unusable != 0 ? (ushort)0
            : (ushort)(s.Type | s.S << 4 | s.Dpl << 5 | s.Present << 7 | s.Avl << 12 | s.L << 13 | s.Db << 14 | s.G
            << 15),
    };

    static KvmSegment To(in SegmentRegister s) => new()
    {
        Base = s.Base,
        Limit = s.Limit,
        Selector = s.Selector,
        Type = (byte)(s.Access & 15),
        S = (byte)(s.Access >> 4 & 1),
        Dpl = (byte)(s.Access >> 5 & 3),
        Present = (byte)(s.Access >> 7 & 1),
        Avl = (byte)(s.Access >> 12 & 1),
        L = (byte)(s.Access >> 13 & 1),
        Db = (byte)(s.Access >> 14 & 1),
        G = (byte)(s.Access >> 15 & 1),
        Unusable = (s.Access & SegmentRegister.Present) != 0 ? (byte)0 : (byte)1,
    };

    static T Get<T>(int vcpu, uint request) where T : unmanaged
    {
        T value = default;
        Get(vcpu, request, &value);
        return value;
    }

    static void Get(int vcpu, uint request, void* block) =>
        KvmApi.Call(vcpu, request, block, "cannot read a vCPU's registers");
    static void Set(int vcpu, uint request, void* block) =>
        KvmApi.Call(vcpu, request, block, "cannot write a vCPU's registers");
}
