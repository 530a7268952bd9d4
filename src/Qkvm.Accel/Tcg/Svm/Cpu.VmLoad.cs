namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>VMLOAD and VMSAVE: what VMRUN and exits leave alone; STGI and CLGI. Spec: AMD64 APM vol. 2, sections 15.5.2
/// and 15.17.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>STGI and CLGI.</summary>
    internal void HoldInterrupts(bool hold)
    {
        _holdsInterrupts = hold;
        if (!hold) Call(CallSignal);
    }

    internal void LoadHidden(ulong address)
    {
        Span<byte> area = stackalloc byte[Vmcb.Size];
        Memory.Read(address, area);
        var vmcb = new Vmcb(area);
        CpuState* s = State;
        // Bases are made canonical, so that no later instruction finds others.
        s->Fs = Canonical(vmcb.ReadSegment(Vmcb.Fs));
        s->Gs = Canonical(vmcb.ReadSegment(Vmcb.Gs));
        s->Ldtr = Canonical(vmcb.ReadSegment(Vmcb.Ldtr));
        s->Tr = Canonical(vmcb.ReadSegment(Vmcb.Tr));
        (s->Star, s->FMask) = (vmcb[Vmcb.Star], (uint)vmcb[Vmcb.FMask]);
        (s->LStar, s->CStar) = (Canonical(vmcb[Vmcb.LStar]), Canonical(vmcb[Vmcb.CStar]));
        s->KernelGsBase = Canonical(vmcb[Vmcb.KernelGsBase]);
        s->SysenterCs = (uint)vmcb[Vmcb.SysenterCs];
        (s->SysenterEsp, s->SysenterEip) = (vmcb[Vmcb.SysenterEsp], vmcb[Vmcb.SysenterEip]);
    }

    Segment Canonical(Segment segment) => segment with { Base = Canonical(segment.Base) };

    ulong Canonical(ulong address) => (ulong)((long)(address << _baseShift) >> _baseShift);

    internal void SaveHidden(ulong address)
    {
        Span<byte> area = stackalloc byte[Vmcb.Size];
        Memory.Read(address, area);
        var vmcb = new Vmcb(area);
        CpuState* s = State;
        vmcb.WriteSegment(Vmcb.Fs, s->Fs);
        vmcb.WriteSegment(Vmcb.Gs, s->Gs);
        vmcb.WriteSegment(Vmcb.Ldtr, s->Ldtr);
        vmcb.WriteSegment(Vmcb.Tr, s->Tr);
        (vmcb[Vmcb.Star], vmcb[Vmcb.FMask]) = (s->Star, s->FMask);
        (vmcb[Vmcb.LStar], vmcb[Vmcb.CStar]) = (s->LStar, s->CStar);
        vmcb[Vmcb.KernelGsBase] = s->KernelGsBase;
        vmcb[Vmcb.SysenterCs] = s->SysenterCs;
        (vmcb[Vmcb.SysenterEsp], vmcb[Vmcb.SysenterEip]) = (s->SysenterEsp, s->SysenterEip);
        WriteBack(address, area, Vmcb.Fs, Vmcb.Gdtr);
        WriteBack(address, area, Vmcb.Ldtr, Vmcb.Idtr);
        WriteBack(address, area, Vmcb.Tr, Vmcb.Cpl & ~7);
        WriteBack(address, area, Vmcb.Star, Vmcb.Cr2);
    }
}
