using System.Text;
using Iced.Intel;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Runs sequences in the guest and on the host, compares what they leave, and makes what differs
/// small.</summary>
sealed unsafe class SequenceJudge : IDisposable
{
    const int Runs = 3, XsaveSize = 0xC00, WarmRuns = 1200, LongestMinimising = 10_000;

    readonly int _bits;
    readonly bool _translated, _scrambles;
    readonly SequenceOracle _oracle;
    readonly SequenceGuest _guest;
    readonly SequenceFuzzer _fuzzer;
    readonly byte[] _pool = new byte[SequenceArena.ScratchSize * 2];

    /// <param name="translated">On the translator; or on the interpreter.</param>
    /// <param name="scrambles">On the host all that is undefined is made random: see
    /// <see cref="SequenceOracle.Scrambles"/>.</param>
    /// <param name="vendor">Of the guest's processor; null: the usual one.</param>
    public SequenceJudge(int bits, bool translated, bool scrambles = false, string? vendor = null)
    {
        (_bits, _translated, _scrambles) = (bits, translated, scrambles);
        _oracle = new SequenceOracle(bits) { Scrambles = scrambles };
        _guest = new SequenceGuest(bits, translated, vendor);
        _fuzzer = new SequenceFuzzer(bits);
        new Random(bits).NextBytes(_pool);
    }

    /// <summary>Instructions generated, not counting repetitions.</summary>
    public long Instructions { get; private set; }
    public long Sequences { get; private set; }

    /// <summary>Runs that ended with a fault that the host agreed with.</summary>
    public long Faults { get; private set; }

    /// <summary>Instructions that the host ran step by step.</summary>
    public long Steps { get; private set; }

    /// <summary>Runs that were compared.</summary>
    public long Compared { get; private set; }

    /// <summary>Runs that left the arena, so that the host could not be asked.</summary>
    public long Unjudged { get; private set; }

    /// <summary>Sequences that the guest did not finish in time. A return address that the sequence itself overwrote
    /// may be why; on a CPU other than the interpreter, that the interpreter finishes the same seed says that something
    /// is wrong.</summary>
    public long Endless { get; private set; }

    /// <summary>Mnemonics seen.</summary>
    public HashSet<Mnemonic> Mnemonics { get; } = [];

    /// <summary>What to start a run with.</summary>
    sealed record Input(ulong[] Gpr, ulong Flags, byte[] Xsave, uint Patch);

    /// <summary>One sequence, several runs; null, or the report of a difference.</summary>
    public string? Check(int seed)
    {
        Sequence sequence = _fuzzer.Next(seed);
        return Check(sequence, seed);
    }

    /// <summary>One sequence, with inputs that follow from a number; RSP points into the scratch memory.</summary>
    public string? CheckOther(Sequence sequence, int seed)
    {
        _fuzzer.Next(seed);
        return Check(sequence, seed);
    }

    string? Check(Sequence sequence, int seed)
    {
        var random = new Random(~seed);
        ulong start = SequenceArena.Code + (ulong)random.Next(SequenceArena.CodeSize - 0x1000);
        if (!sequence.Place(start)) return null;
        Sequences++;
        Instructions += sequence.Items.Count;
        foreach (SequenceItem item in sequence.Items) Mnemonics.Add(item.Instruction.Mnemonic);
        var inputs = new Input[Runs];
        for (int i = 0; i < Runs; i++) inputs[i] = NewInput(random);
        int scratch = random.Next(SequenceArena.ScratchSize);
        bool isHot = random.Next(64) == 0;
        (long compared, long faults, long unjudged) = (Compared, Faults, Unjudged);
        long endless = Endless;
        string? difference = Differs(sequence, start, inputs, scratch, isHot);
        if (difference == null) return null;
        string whole = Report(sequence, seed, inputs, difference);
        if (Differs(sequence, start, inputs, scratch, isHot) is not { } again)
            return $"{whole}(not seen again in the same process: it depends on what ran before)\n";
        // Without the instruction that counts, a loop has no end: no time for that.
        _guest.Patience = TimeSpan.FromMilliseconds(50);
        Sequence small = Minimise(sequence, start, inputs, scratch, isHot);
        _guest.Patience = SequenceGuest.DefaultPatience;
        small.Place(start);
        again = Differs(small, start, inputs, scratch, isHot) ?? again;
        (Compared, Faults, Unjudged, Endless) = (compared, faults, unjudged, endless);
        return Report(small, seed, inputs, again);
    }

    public void Dispose()
    {
        _guest.Dispose();
        _oracle.Dispose();
    }

    Sequence Minimise(Sequence sequence, ulong start, Input[] inputs, int scratch, bool isHot)
    {
        bool shrank;
        var clock = System.Diagnostics.Stopwatch.StartNew();
        do
        {
            shrank = false;
            for (int i = sequence.Items.Count - 1; i >= 0 && clock.ElapsedMilliseconds < LongestMinimising; i--)
                if (sequence.Without(i) is { } without && without.Place(start)
                    && Differs(without, start, inputs, scratch, isHot) != null)
                    (sequence, shrank) = (without, true);
        }
        while (shrank);
        return sequence;
    }

    string? Differs(Sequence sequence, ulong start, Input[] inputs, int scratch, bool isHot)
    {
        int at = (int)(start - SequenceArena.Code), length = sequence.Bytes.Length;
        Restore();
        if (isHot)
        {
            for (int i = 0; i < WarmRuns; i++)
            {
                RefillScratch();
                if (RunGuest(inputs[i % Runs], start).Number >= 0) continue;
                Endless++;
                return null;
            }
            Restore();
        }
        for (int run = 0; run < inputs.Length; run++)
        {
            if (sequence.Patched is { } patched && run > 0)
            {
                byte[] immediate = BitConverter.GetBytes(inputs[run].Patch);
                ulong where = patched.Address + (ulong)patched.Length - 4;
                _guest.Write(where, immediate);
                immediate.CopyTo(SequenceOracle.Code[(int)(where - SequenceArena.Code)..]);
            }
            SequenceEnd mine = RunGuest(inputs[run], start);
            if (mine.Number < 0)
            {
                Endless++;
                return null;
            }
            // The host is not to touch what is not ours; what the guest did there says nothing.
            if (!IsOurs(sequence, mine))
            {
                Unjudged++;
                return null;
            }
            if (_scrambles) _oracle.Describe(sequence, isUndefined: true);
            SequenceEnd host = RunHost(inputs[run], start);
            if (_scrambles) _oracle.Describe(sequence, isUndefined: false);
            Steps += _oracle.Steps;
            if (IsOfHypervisor(mine, host))
            {
                Unjudged++;
                return null;
            }
            Compared++;
            if (mine.Number != SequenceArena.Done) Faults++;
            string difference = Compare(sequence, mine, host, at, length);
            if (difference != "") return $"run {run}{(isHot ? " after many" : "")}:\n{difference}";
        }
        return null;

        void Restore()
        {
            sequence.Bytes.CopyTo(SequenceOracle.Code[at..]);
            _guest.Write(start, sequence.Bytes);
            RefillScratch();
        }

        void RefillScratch()
        {
            _pool.AsSpan(scratch, SequenceArena.ScratchSize).CopyTo(SequenceOracle.Scratch);
            SequenceOracle.Scratch.CopyTo(_guest.Scratch);
        }
    }

    /// <summary>Within the sequence, with accesses only within the arena, and nothing that processors disagree
    /// on.</summary>
    static bool IsOurs(Sequence sequence, SequenceEnd end)
    {
        // With TF set, the jump to the exit may be the last.
        if (end.Number == SequenceArena.Done || end.Rip == SequenceArena.Exit) return true;
        if (end.Number == Vector.PageFault && end.Address - SequenceArena.Base >= SequenceArena.Size) return false;
        foreach (SequenceItem item in sequence.Items)
            if (item.Address == end.Rip) return !Differs(item.Instruction.Mnemonic, end.Number);
        return false;

        // Some let unaligned operands of SHA instructions pass, change registers before POPA reaches what it cannot
        // read, or name the first byte of a masked store that writes only others.
        static bool Differs(Mnemonic faulted, int vector) =>
            faulted is Mnemonic.Popa or Mnemonic.Popad or Mnemonic.Maskmovq or Mnemonic.Maskmovdqu
                or Mnemonic.Vmaskmovdqu
            || vector == Vector.GeneralProtection && faulted.ToString().StartsWith("Sha", StringComparison.Ordinal);
    }

    /// <summary>After an interrupt or a trap, some hypervisors' hosts cannot return to an RSP that is not
    /// canonical.</summary>
    bool IsOfHypervisor(SequenceEnd mine, SequenceEnd host)
    {
        long rsp = (long)_oracle.State->Gpr[4];
        return host != mine && (host.Number is Vector.GeneralProtection or Vector.InvalidOpcode)
            && rsp << 16 >> 16 != rsp;
    }

    SequenceEnd RunGuest(Input input, ulong start)
    {
        CpuState* s = _guest.State;
        for (int i = 0; i < 16; i++) s->Gpr[i] = input.Gpr[i];
        input.Xsave.AsSpan(0, sizeof(XsaveArea)).CopyTo(new Span<byte>(s->Xsave.Bytes, sizeof(XsaveArea)));
        _guest.VectorsChanged();
        return _guest.Run(start, input.Flags);
    }

    SequenceEnd RunHost(Input input, ulong start)
    {
        HostOracle.Registers* s = _oracle.State;
        for (int i = 0; i < 16; i++) s->Gpr[i] = input.Gpr[i];
        s->Flags = input.Flags | Rflags.If | 2;
        fixed (byte* image = input.Xsave) _oracle.LoadVectors(image);
        return _oracle.Run(start);
    }

    Input NewInput(Random random)
    {
        var xsave = new byte[XsaveSize];
        ulong[] gpr = _fuzzer.Initial(random);
        fixed (byte* image = xsave) _fuzzer.FillVectors(image, unmasked: random.Next(12) == 0);
        return new Input(gpr, (ulong)random.NextInt64() & Rflags.Arithmetic, xsave, (uint)random.Next());
    }

    string Compare(Sequence sequence, SequenceEnd mine, SequenceEnd host, int at, int length)
    {
        var text = new StringBuilder();
        if (mine != host) text.Append($"  end: {mine}; on the host {host}\n");
        HostOracle.Registers* theirs = _oracle.State;
        int count = _bits == 64 ? 16 : 8;
        for (int i = 0; i < count; i++)
            if (_guest.State->Gpr[i] != theirs->Gpr[i])
                text.Append($"  register {i}: {_guest.State->Gpr[i]:x}, on the host {theirs->Gpr[i]:x}\n");
        SequenceItem? last = sequence.Items.Find(item => item.Address == mine.Rip)
            ?? sequence.Items.Find(item => item.Instruction.NearBranch64 == SequenceArena.Exit);
        ulong undefined = UndefinedAt(last, mine);
        // What translated code is about to overwrite it does not keep: a fault's frame may hold older flags.
        if (_translated && mine.Number != SequenceArena.Done) undefined |= Rflags.Arithmetic;
        // The host's TF may be the one that steps, and some hypervisors' hosts lose NT in an interrupt.
        ulong compared = Rflags.Arithmetic | Rflags.Df | Rflags.Ac | Rflags.Id | (_scrambles ? 0 : Rflags.Tf);
        ulong difference = (_guest.FlagsAfter ^ theirs->Flags) & compared & ~undefined;
        if (difference != 0)
            text.Append($"  flags {_guest.FlagsAfter:x}, on the host {theirs->Flags:x}; {difference:x} differ\n");
        byte* left = _guest.State->Xsave.Bytes, right = stackalloc byte[sizeof(XsaveArea)];
        _oracle.UnloadVectors(right);
        byte* entered = stackalloc byte[sizeof(XsaveArea)];
        if (mine.Number == Vector.PageFault && last != null && UndefinedResults.MayEnterMmx(last.Instruction))
        {
            // As if both had. The host may be one that has, or one that has not.
            if (_scrambles && mine.Rip % 2 == 0) EnterMmx(right);
            *(XsaveArea*)entered = *(XsaveArea*)left;
            EnterMmx(left = entered);
            EnterMmx(right);
        }
        if (mine.Number != SequenceArena.Done && last != null)
            for (int i = 0; i < count; i++)
            {
                if (UndefinedResults.MayKeepUpper(last.Instruction, i, 16)) Copy(XsaveArea.YmmHigh0 + i * 16, 16);
                if (UndefinedResults.MayKeepUpper(last.Instruction, i, 32)) Copy(XsaveArea.ZmmHigh0 + i * 32, 32);
            }
        *(ushort*)(right + XsaveArea.Fsw) =
            MergeX87(*(ushort*)(right + XsaveArea.Fsw), *(ushort*)(left + XsaveArea.Fsw), last);
        Same(text, "x87 control", left, right, 0, 5);
        Same(text, "MXCSR", left, right, XsaveArea.Mxcsr, 4);
        for (int i = 0; i < 8; i++) Same(text, $"ST{i}", left, right, XsaveArea.St0 + i * 16, 10);
        for (int i = 0; i < count; i++) Same(text, $"XMM{i}", left, right, XsaveArea.Xmm0 + i * 16, 16);
        for (int i = 0; i < count; i++) Same(text, $"YMM{i} high", left, right, XsaveArea.YmmHigh0 + i * 16, 16);
        if (HostOracle.HasAvx512)
        {
            for (int i = 0; i < 8; i++) Same(text, $"k{i}", left, right, XsaveArea.Opmask0 + i * 8, 8);
            for (int i = 0; i < count; i++) Same(text, $"ZMM{i} high", left, right, XsaveArea.ZmmHigh0 + i * 32, 32);
            for (int i = 16; i < count * 2; i++)
                Same(text, $"ZMM{i}", left, right, XsaveArea.Zmm16 + (i - 16) * 64, 64);
        }
        if (!SequenceOracle.Scratch.SequenceEqual(_guest.Scratch))
        {
            int where = SequenceOracle.Scratch.CommonPrefixLength(_guest.Scratch),
                shown = Math.Min(16, SequenceArena.ScratchSize - where);
            text.Append($"  memory at {SequenceArena.Scratch + (ulong)where:x}: " +
                $"{Convert.ToHexString(_guest.Scratch.Slice(where, shown))}, on the host "
                + $"{Convert.ToHexString(SequenceOracle.Scratch.Slice(where, shown))}\n");
        }
        if (!SequenceOracle.Code.Slice(at, length).SequenceEqual(_guest.CodeAt(sequence.Start, length)))
            text.Append("  code\n");
        return text.Length > 0 && mine == host ? $"  end: {mine}\n{text}" : text.ToString();

        void Copy(int offset, int size) => Buffer.MemoryCopy(left + offset, right + offset, size, size);
    }

    /// <summary>Of the flags. Faults are precise: all before the instruction, nothing of it.</summary>
    static ulong UndefinedAt(SequenceItem? last, SequenceEnd end)
    {
        if (last == null) return 0;
        // After a fault, CMPS and SCAS leave the flags they found, says Intel SDM vol. 2, REP; other processors those
        // of the last round.
        bool isComparison = last.Instruction.Mnemonic is Mnemonic.Cmpsb or Mnemonic.Cmpsw or Mnemonic.Cmpsd
            or Mnemonic.Cmpsq or Mnemonic.Scasb
            or Mnemonic.Scasw or Mnemonic.Scasd or Mnemonic.Scasq;
        return isComparison && end.Number != SequenceArena.Done ? Rflags.Arithmetic : last.Undefined;
    }

    /// <summary>The x87's status word, but what is undefined in it as another has it. With an exception pending, even
    /// comparisons have not defined anything.</summary>
    static ushort MergeX87(ushort status, ushort other, SequenceItem? last)
    {
        const int pending = 0x80;
        int undefined = (status & pending) != 0 ? UndefinedResults.Conditions : last?.UndefinedX87 ?? 0;
        return (ushort)(status & ~undefined | other & undefined);
    }

    /// <summary>TOP becomes 0, tags valid: registers keep their numbers, which the image counts from TOP. Intel SDM
    /// vol. 1, section 9.5.1.</summary>
    static void EnterMmx(byte* image)
    {
        const int registers = 8, size = 16, topShift = 11, topMask = 7 << topShift;
        ref ushort status = ref *(ushort*)(image + XsaveArea.Fsw);
        int top = status >> topShift & 7;
        var before = new ReadOnlySpan<byte>(image + XsaveArea.St0, registers * size).ToArray();
        for (int i = 0; i < registers; i++)
            before.AsSpan((i - top & 7) * size, size).CopyTo(new Span<byte>(image + XsaveArea.St0 + i * size, size));
        status &= unchecked((ushort)~topMask);
        image[XsaveArea.Ftw] = 0xFF;
    }

    static void Same(StringBuilder text, string what, byte* mine, byte* host, int at, int count)
    {
        var left = new ReadOnlySpan<byte>(mine + at, count);
        var right = new ReadOnlySpan<byte>(host + at, count);
        if (!left.SequenceEqual(right))
            text.Append($"  {what}: {Convert.ToHexString(left)}, on the host {Convert.ToHexString(right)}\n");
    }

    string Report(Sequence sequence, int seed, Input[] inputs, string difference)
    {
        var text = new StringBuilder($"{_bits} bits, seed {seed} (again: fuzz 1 {seed} {_bits})\n" +
            $"{sequence}{difference}");
        for (int run = 0; run < inputs.Length; run++)
        {
            text.Append($"inputs of run {run}: flags {inputs[run].Flags:x}");
            for (int i = 0; i < (_bits == 64 ? 16 : 8); i++) text.Append($" {i}={inputs[run].Gpr[i]:x}");
            text.Append($" FCW, FSW {Convert.ToHexString(inputs[run].Xsave, 0, 4)} MXCSR " +
                $"{BitConverter.ToUInt32(inputs[run].Xsave, XsaveArea.Mxcsr):x}\n");
        }
        return text.ToString();
    }
}
