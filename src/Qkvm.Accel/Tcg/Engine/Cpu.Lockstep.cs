using Iced.Intel;
using Qkvm.Accel.Tcg.Translator;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>-d lockstep: each instruction through the translator, then through the interpreter from the same state;
/// differences are told on stderr. For whoever changes the translator.</summary>
/// <remarks>Instructions that change memory which they have read go through the interpreter only, as do those that
/// reached a device: neither can be done twice.</remarks>
public sealed unsafe partial class Cpu
{
    const int MostDifferences = 100;

    /// <summary>Set before the vCPU runs.</summary>
    public bool Lockstep { get; set; }

    /// <summary>Instructions compared, and how many of them differed.</summary>
    public long Compared { get; private set; }
    public int Differences { get; private set; }

    void RunLockstep()
    {
        CpuState before, translated;
        while (_attention == 0 && _translatable)
        {
            if (IsAtStop) return;
            Translation* block = FindTranslation(State->Rip, flagsInMemory: true, careful: false);
            if (block == null || !CanRunTwice(block, out Instruction x))
            {
                RunOne();
                continue;
            }
            before = *State;
            ulong interpreted = _instructions;
            _hasEnteredHandler = false;
            RunBlock(block);
            if (_hasEnteredHandler || _instructions != interpreted) continue;
            // A site that asked to be translated anew has run nothing.
            if (block->IsStale && State->Rip == before.Rip) continue;
            ulong flags = AllFlags;
            translated = *State;
            *State = before;
            FindVectorsInUse();
            ModeChanged();
            RunOne();
            // Repeated string instructions stop where somebody calls, which is not the same element twice.
            if ((x.HasRepPrefix || x.HasRepnePrefix) && (translated.Rip == before.Rip || State->Rip == before.Rip))
                continue;
            Compared++;
            Compare(x, &before, &translated, flags, block->LiveAfter);
        }
    }

    /// <summary>With <see cref="Lockstep"/>: one instruction as the translator makes it. False: it makes none
    /// here.</summary>
    internal bool TryRunOneTranslated()
    {
        if (!_translatable) return false;
        _modeMayDiffer = true;
        Translation* block = FindTranslation(State->Rip, flagsInMemory: true, careful: false);
        if (block == null) return false;
        RunBlock(block);
        return true;
    }

    void RunBlock(Translation* block)
    {
        PackState();
        _jit->VectorsLoaded = 0;
        Enter(block->Entry, _engine!.Common.Enter);
        while (TryContinue()) { }
        StoreX87();
    }

    readonly Dictionary<nint, (bool, Instruction)> _candidates = [];
    int _candidatesOf;

    /// <summary>The block's first instruction, if it may be run by both.</summary>
    bool CanRunTwice(Translation* block, out Instruction x)
    {
        if (_candidatesOf != _forgets) _candidates.Clear();
        _candidatesOf = _forgets;
        if (!_candidates.TryGetValue((nint)block, out (bool Is, Instruction X) candidate))
        {
            candidate.Is = IsCandidate(block, out candidate.X);
            _candidates.Add((nint)block, candidate);
        }
        x = candidate.X;
        return candidate.Is;
    }

    bool IsCandidate(Translation* block, out Instruction x)
    {
        int length = (int)Math.Min(16, PageSize - (LinearOf(State->Rip) & PageMask));
        var decoder =
            Decoder.Create(_codeSize * 8,
            new ByteArrayCodeReader(new ReadOnlySpan<byte>(block->Host, length).ToArray()), DecoderOptions);
        decoder.IP = State->Rip;
        decoder.Decode(out x);
        if (x.Code == Code.INVALID) return false;
        OpInfo info = OpInfo.Of(x);
        return info.Treatment != Treatment.Interpret && !(info.StoresMemory && info.LoadsMemory)
            && x.Mnemonic is not (Mnemonic.Xchg or Mnemonic.Rdtsc or Mnemonic.Rdtscp);
    }

    void Compare(in Instruction x, CpuState* before, CpuState* translated, ulong flags, byte live)
    {
        const int vectors = XsaveArea.Xmm0, vectorsLength = 256;
        int upperLength = sizeof(XsaveArea) - XsaveArea.YmmHigh0;
        // At a jump, what is alive differs between its two ways.
        ulong compared = x.FlowControl != FlowControl.Next ? 0 : MaskOf((RflagsBits)live & ~x.RflagsUndefined);
        // shifts by a count in a register
        if (OpInfo.Of(x).Kills == 0 && OpInfo.Of(x).Changes != 0) compared = 0;
        bool differs = translated->Rip != State->Rip || ((flags ^ AllFlags) & compared) != 0
            || translated->Cpl != State->Cpl;
        for (int i = 0; i < 16; i++) differs |= translated->Gpr[i] != State->Gpr[i];
        differs |= !new ReadOnlySpan<byte>(translated->Xsave.Bytes + vectors, vectorsLength)
            .SequenceEqual(new ReadOnlySpan<byte>(State->Xsave.Bytes + vectors, vectorsLength));
        differs |= !new ReadOnlySpan<byte>(translated->Xsave.Bytes + XsaveArea.YmmHigh0, upperLength)
            .SequenceEqual(new ReadOnlySpan<byte>(State->Xsave.Bytes + XsaveArea.YmmHigh0, upperLength));
        if (!differs || ++Differences > MostDifferences) return;
        Console.Error.WriteLine($"lockstep: {before->Rip:x}: {x} ({x.Code}): rip {translated->Rip:x}, right " +
            $"{State->Rip:x}; "
            + $"flags {flags:x}, right {AllFlags:x}, compared {compared:x}");
        for (int i = 0; i < 16; i++)
            if (translated->Gpr[i] != State->Gpr[i])
                Console.Error.WriteLine($"  r{i}: {before->Gpr[i]:x} became {translated->Gpr[i]:x}, right " +
                    $"{State->Gpr[i]:x}");
    }

    static ulong MaskOf(RflagsBits bits)
    {
        ulong mask = 0;
        if ((bits & RflagsBits.OF) != 0) mask |= Tcg.Rflags.Of;
        if ((bits & RflagsBits.SF) != 0) mask |= Tcg.Rflags.Sf;
        if ((bits & RflagsBits.ZF) != 0) mask |= Tcg.Rflags.Zf;
        if ((bits & RflagsBits.AF) != 0) mask |= Tcg.Rflags.Af;
        if ((bits & RflagsBits.CF) != 0) mask |= Tcg.Rflags.Cf;
        if ((bits & RflagsBits.PF) != 0) mask |= Tcg.Rflags.Pf;
        return mask;
    }
}
