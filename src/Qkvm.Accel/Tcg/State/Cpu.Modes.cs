using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg;
using Engine = Qkvm.Accel.Tcg.Translator.Translator;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>The processor's state as far as it is built into translated code.</summary>
public sealed unsafe partial class Cpu
{
    Mode? _mode;
    bool _modeMayDiffer;
    ulong _modeBits = ulong.MaxValue;

    /// <summary>What the processor's state means for translated code.</summary>
    internal Mode CurrentMode()
    {
        // Outside 64-bit mode any segment register counts.
        if (_mode != null && !_modeMayDiffer && _is64Bit) return _mode;
        _modeMayDiffer = false;
        ulong bits = ModeBits();
        uint start = (uint)_codeBase, limit = _is64Bit ? uint.MaxValue : State->Cs.Limit;
        if (_mode != null && bits == _modeBits && start == _mode.CodeBase && limit == _mode.CodeLimit) return _mode;
        _modeBits = bits;
        _mode = TryModeOf(bits, start, limit);
        if (_mode == null)
        {
            ForgetTranslations();
            _mode = TryModeOf(bits, start, limit)
                ?? throw new InvalidOperationException("no room for a jump table in an empty code cache");
        }
        return _mode;
    }

    /// <summary>Null: there is no room for one more.</summary>
    internal Mode? TryModeOf(ulong bits, uint codeBase = 0, uint codeLimit = uint.MaxValue)
    {
        ref Mode? recent = ref _recentModes[(bits ^ bits >> 1 ^ bits >> 6 ^ codeBase >> 4) & RecentModes - 1];
        if (recent != null && recent.Bits == bits && recent.CodeBase == codeBase && recent.CodeLimit == codeLimit)
            return recent;
        if (_modes.TryGetValue((bits, codeBase, codeLimit), out Mode? known)) return recent = known;
        Mode? mode = MakeMode(bits, codeBase, codeLimit);
        if (mode != null) _modes.Add((bits, codeBase, codeLimit), mode);
        return mode;
    }

    internal const ulong ModeIs64 = 1, ModeUser = 2, ModeAc = 4, ModeSse = 8, ModeAvx = 0x10, ModeX87 = 0x20,
        ModeMiddle = 0x40, ModeSystemCall = 0x80,
        ModeFiveLevels = 1 << 24, ModeAvx512 = 1 << 25, ModeBases = 1 << 28, ModeDown = 1 << 14, ModeCode16 = 1 << 15,
            ModeReal = 1 << 22, ModeSmallStack = 1 << 23, ModeGuest = 1 << 26, ModeIntercepts = 1 << 27;

    // Bits by segment: without a limit; with base 0; with the limit FFFFh; with another.
    internal const int ModeOpen = 8, ModeFlat = 16, ModeWord = 32, ModeLimited = 40;

    ulong ModeBits()
    {
        const uint mxcsrMasks = 0x1F80, mxcsrMisaligned = 1 << 17;
        const ushort x87Masks = 0x3F;
        CpuState* s = State;
        ulong bits = s->Cpl switch { 3 => ModeUser, 0 => 0, _ => ModeMiddle };
        if (s->Cpl != 3 && (s->RflagsSystem & Tcg.Rflags.Ac) != 0) bits |= ModeAc;
        bool fpu = (s->Cr0 & (Tcg.Cr0.Em | Tcg.Cr0.Ts)) == 0;
        if (fpu && (s->Cr4 & Cr4.Osfxsr) != 0
            && (*(uint*)(s->Xsave.Bytes + XsaveArea.Mxcsr) & (mxcsrMasks | mxcsrMisaligned)) == mxcsrMasks)
        {
            bits |= ModeSse;
            if ((s->Cr4 & Cr4.Osxsave) != 0 && (s->Xcr0 & 6) == 6)
                bits |= ModeAvx | ((s->Xcr0 & Avx512State) == Avx512State ? ModeAvx512 : 0);
        }
        if (fpu && (_jit->X87Loaded != 0 || (X87Control & x87Masks) == x87Masks && (X87Status & X87Summary) == 0))
            bits |= ModeX87;
        if ((s->Efer & Efer.Sce) != 0) bits |= ModeSystemCall;
        if ((s->Cr4 & Cr4.La57) != 0) bits |= ModeFiveLevels;
        if ((s->Cr4 & Cr4.Fsgsbase) != 0) bits |= ModeBases;
        if (!GoesUp) bits |= ModeDown;
        if (IsGuest) bits |= GuestModeBits();
        if (_is64Bit) return bits | ModeIs64;
        bool isReal = IsRealAddressing;
        if (isReal) bits |= ModeReal;
        if (_codeSize == 2) bits |= ModeCode16;
        if ((s->Ss.Access & Segment.Big) == 0) bits |= ModeSmallStack;
        for (int i = 0; i < Seg.Count; i++)
        {
            ref Segment segment = ref s->Segment(i);
            if (!isReal && segment.Base == 0) bits |= 1UL << ModeFlat + i;
            if (!IsPlain(segment, isReal)) continue;
            bits |= 1UL << i
                + (segment.Limit switch { uint.MaxValue => ModeOpen, ushort.MaxValue => ModeWord, _ => ModeLimited });
        }
        return bits;
    }

    /// <summary>It takes both reads and writes up to its limit.</summary>
    static bool IsPlain(in Segment segment, bool isReal)
    {
        const uint kind = Segment.Present | Segment.System | Segment.Code | Segment.ExpandDown | Segment.Writable;
        // Real-address mode looks at no rights, but at the direction in which a segment left from before grows.
        return isReal ? (segment.Access & Segment.Present) != 0
            && (segment.Access & (Segment.Code | Segment.ExpandDown)) != Segment.ExpandDown
            : (segment.Access & kind) == (Segment.Present | Segment.System | Segment.Writable);
    }

    Mode? MakeMode(ulong bits, uint codeBase, uint codeLimit)
    {
        bool isFlat = (bits & ModeCode16) == 0 && codeBase == 0 && codeLimit == uint.MaxValue;
        int count = isFlat ? JumpEntry.Count : JumpEntry.FewCount;
        var jumps = (JumpEntry*)_region.Allocate(count * sizeof(JumpEntry), 64);
        if (jumps == null) return null;
        for (int i = 0; i < count; i++) jumps[i].Target = JumpEntry.Empty;
        ReturnEntry* returns = null;
        if ((bits & ModeIs64) != 0)
        {
            returns = (ReturnEntry*)_region.Allocate(ReturnEntry.Count * sizeof(ReturnEntry), 64);
            if (returns == null) return null;
            uint arrivals = _engine!.AllocateArrivals(ReturnEntry.Count);
            if (arrivals == 0) return null;
            for (uint i = 0; i < ReturnEntry.Count; i++)
            {
                returns[i].Index = i;
                returns[i].Code = arrivals + i * Engine.ArrivalSize;
                returns[i].Clear();
            }
        }
        return new Mode
        {
            Bits = bits, CodeSize = (bits & ModeIs64) != 0 ? 8 : (bits & ModeCode16) != 0 ? 2
                : 4, CodeBase = codeBase, CodeLimit = codeLimit,
            Number = _modes.Count, HasSse = (bits & ModeSse) != 0, HasAvx = (bits & ModeAvx) != 0,
                HasX87 = (bits & ModeX87) != 0,
            Jumps = jumps, JumpCount = count, Returns = returns,
        };
    }
}
