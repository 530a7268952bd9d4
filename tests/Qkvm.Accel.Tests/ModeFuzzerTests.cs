using System.Text;
using Qkvm.Accel.Tcg;

namespace Qkvm.Accel.Tests;

/// <summary>Random code in modes with segments, translated and interpreted: all state, memory and faults must
/// agree.</summary>
public sealed unsafe class ModeFuzzerTests
{
    const int Shown = 3;

    [Theory]
    [InlineData(FuzzedMode.Real, 1000)]
    [InlineData(FuzzedMode.Unreal, 500)]
    [InlineData(FuzzedMode.Virtual8086, 1000)]
    [InlineData(FuzzedMode.Protected16, 1000)]
    [InlineData(FuzzedMode.Protected32, 1000)]
    public void TranslatedCodeLeavesWhatInterpretedCodeLeaves(FuzzedMode mode, int sequences)
    {
        using var judge = new ModeJudge(mode);
        var reports = new List<string>();
        int first = int.Parse(Environment.GetEnvironmentVariable("QKVM_FUZZ_SEED") ?? "1"),
            count = int.Parse(Environment.GetEnvironmentVariable("QKVM_FUZZ_COUNT") ?? "0");
        sequences = count != 0 ? count : HostNeeds.Share(sequences);
        for (int seed = first; seed < first + sequences && reports.Count < Shown; seed++)
            if (judge.Check(seed) is { } report) reports.Add(report);
        Assert.True(reports.Count == 0, string.Join('\n', reports));
        Assert.True(judge.Finished * 10 > sequences, $"only {judge.Finished} of {sequences} ran to their ends, " +
            $"{judge.Endless} without one, {judge.Strayed} elsewhere");
    }
}

/// <summary>Runs the same sequence on both.</summary>
sealed unsafe class ModeJudge : IDisposable
{
    const int InvalidOpcode = 6, Endings = 2;

    readonly FuzzedMode _mode;
    readonly ModeGuest _interpreted, _translated;
    readonly ModeFuzzer _fuzzer;
    readonly byte[] _memory = new byte[ModeGuest.Compared];
    readonly int _bits;

    public ModeJudge(FuzzedMode mode)
    {
        _mode = mode;
        _bits = mode == FuzzedMode.Protected32 ? 32 : 16;
        (_interpreted, _translated) = (new ModeGuest(mode, false), new ModeGuest(mode, true));
        _fuzzer = new ModeFuzzer(_bits, ModeGuest.IsReal(mode), ModeGuest.Selectors(mode));
        new Random(7).NextBytes(_memory);
    }

    /// <summary>Sequences that ran to their ends, and those that neither did.</summary>
    public int Finished { get; private set; }
    public int Endless { get; private set; }

    /// <summary>Sequences that ended in what lay elsewhere.</summary>
    public int Strayed { get; private set; }

    public void Dispose()
    {
        _interpreted.Dispose();
        _translated.Dispose();
    }

    /// <summary>Null, or the report of a difference.</summary>
    public string? Check(int seed)
    {
        Sequence sequence = _fuzzer.Next(seed);
        (ulong codeBase, ulong start) = _interpreted.Setup(seed, _memory);
        if (!sequence.Place(start)) return null;
        byte[] bytes = sequence.Bytes;
        if (codeBase + start + (ulong)bytes.Length > ModeGuest.Compared) return null;
        _interpreted.Write(codeBase + start, bytes);
        int right = _interpreted.Run(ModeGuest.Glance);
        if (right == -1)
        {
            Endless++;
            return null;
        }
        _translated.Setup(seed, _memory);
        _translated.Write(codeBase + start, bytes);
        int ended = _translated.Run(ModeGuest.Patience);
        string difference = Compare(sequence, right, ended);
        if (difference == "") return null;
        uint ip = (uint)_interpreted.Frame(Math.Max(right, 0)).Ip;
        string code = Convert.ToHexString(_memory, (int)(codeBase + ip) & 0xFFFFF, 8);
        return $"{_mode}, seed {seed}, CS base {codeBase:x}, vector {right} at {ip:x}: {code}\n{sequence}{difference}";
    }

    string Compare(Sequence sequence, int right, int ended)
    {
        if (right == -2) return ended == right ? "" : $"  vector {ended}, right a shutdown\n";
        var text = new StringBuilder();
        (ulong ip, ulong flagsAt) = _translated.Frame(Math.Max(ended, 0));
        (ulong rightIp, ulong rightFlagsAt) = _interpreted.Frame(right);
        // What is not of the sequence may read undefined flags, and runs beyond CS's limit in the interpreter.
        ulong last = sequence.Items[^1].Address + (ulong)sequence.Items[^1].Length;
        if (rightIp < sequence.Start || rightIp >= last)
        {
            Strayed++;
            return "";
        }
        if (right != ended) return $"  vector {ended} at {ip:x}, right {right}\n";
        if (ip != rightIp) text.Append($"  ended at {ip:x}, right {rightIp:x}\n");
        bool finished = right == InvalidOpcode
            && sequence.Items.Exists(item => item.Address == ip && item.Instruction.Code == Iced.Intel.Code.Ud2);
        if (finished) Finished++;
        CpuState* mine = _translated.State, other = _interpreted.State;
        for (int i = 0; i < 8; i++)
            if ((uint)mine->Gpr[i] != (uint)other->Gpr[i])
                text.Append($"  register {i}: {mine->Gpr[i]:x}, right {other->Gpr[i]:x}\n");
        for (int i = 0; i < Seg.Count; i++)
        {
            Segment a = mine->Segment(i), b = other->Segment(i);
            if (a.Base != b.Base || a.Limit != b.Limit || a.Selector != b.Selector || a.Access != b.Access)
                text.Append($"  segment {i}: {a.Selector:x} {a.Base:x} {a.Limit:x} {a.Access:x}, right " +
                    $"{b.Selector:x} {b.Base:x} {b.Limit:x} {b.Access:x}\n");
        }
        if (ModeGuest.HasErrorCode(right) && !(_mode <= FuzzedMode.Unreal)
            && _translated.ErrorCode != _interpreted.ErrorCode)
            text.Append($"  error code {_translated.ErrorCode:x}, right {_interpreted.ErrorCode:x}\n");
        if (mine->Cr2 != other->Cr2) text.Append($"  CR2 {mine->Cr2:x}, right {other->Cr2:x}\n");
        // What translated code is about to overwrite it does not keep: a fault's frame may hold older flags.
        ulong compared = finished ? 0xFFFF : 0xFFFF & ~Rflags.Arithmetic;
        ulong flags = _translated.FlagsAt(flagsAt) & compared,
            rightFlags = _interpreted.FlagsAt(rightFlagsAt) & compared;
        if (flags != rightFlags) text.Append($"  flags {flags:x}, right {rightFlags:x}\n");
        var vectors = new ReadOnlySpan<byte>(mine->Xsave.Bytes + 32, 128 + 256);
        if (!vectors.SequenceEqual(new ReadOnlySpan<byte>(other->Xsave.Bytes + 32, 128 + 256)))
            text.Append("  x87 or vector registers\n");
        ReadOnlySpan<byte> left = _translated.Ram, rightRam = _interpreted.Ram;
        for (int from = 0; from < left.Length;)
        {
            int same = left[from..].CommonPrefixLength(rightRam[from..]);
            if (from + same == left.Length) break;
            int at = from + same;
            from = at + 1;
            bool isFlags = _mode <= FuzzedMode.Unreal && (ulong)at - flagsAt < Endings && !finished;
            if (isFlags) continue;
            text.Append($"  memory at {at:x}: {left[at]:x}, right {rightRam[at]:x}\n");
            if (text.Length > 2000) break;
        }
        return text.ToString();
    }
}
