using System.Diagnostics;
using Qkvm.Accel.Tcg.Model;

namespace Qkvm.Accel.Tests;

/// <summary>Signal handlers and fixed addresses are the process': nothing runs beside this.</summary>
[CollectionDefinition(nameof(SequenceFuzzerTests), DisableParallelization = true)]
public sealed class AloneInTheProcess;

/// <summary>Random sequences through the vCPU's run loop and on the host: all state, memory and faults must
/// agree.</summary>
[Collection(nameof(SequenceFuzzerTests))]
public sealed class SequenceFuzzerTests
{
    const int Shown = 5;

    [Theory]
    [InlineData(1, 100_000, 500, true)]
    [InlineData(3, 100_000, 500, false)]
    public void Sequences_leave_what_they_leave_on_the_host(int seed, int instructions, int mnemonics,
        bool translated) =>
        Compare(64, seed, instructions, mnemonics, translated);

    [Code32Theory]
    [InlineData(2, 50_000, 400, true)]
    [InlineData(4, 50_000, 400, false)]
    public void So_do_those_of_32_bit_code(int seed, int instructions, int mnemonics, bool translated) =>
        Compare(32, seed, instructions, mnemonics, translated);

    [Theory]
    [InlineData(5, 40_000, 400, true)]
    [InlineData(6, 20_000, 400, false)]
    public void Nothing_depends_on_what_this_processor_makes_of_undefined_results(int seed, int instructions,
        int mnemonics, bool translated) =>
        Compare(64, seed, instructions, mnemonics, translated, scrambles: true);

    [Code32Theory]
    [InlineData(7, 20_000, 300, true)]
    public void Nor_does_anything_in_32_bit_code(int seed, int instructions, int mnemonics, bool translated) =>
        Compare(32, seed, instructions, mnemonics, translated, scrambles: true);

    static void Compare(int bits, int seed, int instructions, int mnemonics, bool translated, bool scrambles = false) =>
        OnItsOwnThread(() =>
    {
        using var judge = new SequenceJudge(bits, translated, scrambles);
        var reports = new List<string>();
        for (int n = 0; judge.Instructions < HostNeeds.Share(instructions) && reports.Count < Shown; n++)
            if (judge.Check(seed + n * 16) is { } report) reports.Add(report);
        Assert.True(reports.Count == 0, string.Join('\n', reports));
        Assert.Equal(0, judge.Endless);
        Assert.True(judge.Mnemonics.Count >= HostNeeds.Kinds(mnemonics), $"only {judge.Mnemonics.Count} mnemonics");
        Assert.True(judge.Compared > judge.Sequences * 2, $"{judge.Compared} runs of {judge.Sequences} sequences " +
            $"compared, {judge.Unjudged} left the arena");
        // Those that end with a fault are shorter than they look, and loops longer.
        Assert.True(!scrambles || judge.Steps > judge.Instructions, $"{judge.Steps} steps");
    });

    /// <summary>"fuzz SECONDS [SEED [BITS [VENDOR]]]": both modes in turn, or one, until the time is up; the guest's
    /// processor is of both makers in turn, or of one. Exit status 1 if anything differed.</summary>
    public static int Main(string[] arguments)
    {
        if (arguments is not ["fuzz", var time, ..] || !double.TryParse(time, out double seconds))
        {
            Console.Error.WriteLine("usage: fuzz SECONDS [SEED [BITS [VENDOR]]]");
            return 2;
        }
        int seed = arguments.Length > 2 ? int.Parse(arguments[2]) : Random.Shared.Next();
        int only = arguments.Length > 3 ? int.Parse(arguments[3]) : 0;
        string[] vendors = arguments.Length > 4 ? [arguments[4]] : [CpuModel.Amd, CpuModel.Intel];
        if (only == 0 && !HostOracle.RunsCode32)
        {
            Console.WriteLine("64-bit code only: this host's kernel describes no segment of 32-bit code");
            only = 64;
        }
        Console.WriteLine($"seed {seed}");
        long instructions = 0, runs = 0, faults = 0, unjudged = 0, endless = 0;
        int differences = 0;
        var clock = Stopwatch.StartNew();
        OnItsOwnThread(() =>
        {
            for (int round = 0; clock.Elapsed.TotalSeconds < seconds && differences < Shown; round++)
            {
                // The translator three times out of four, random results for undefined ones once.
                bool translated = round / 2 % 4 != 3, scrambles = round / 2 % 4 == 2;
                using var judge = new SequenceJudge(only != 0 ? only : round % 2 == 0 ? 64
                    : 32, translated, scrambles, vendors[(round + round / 2) % vendors.Length]);
                double end = Math.Min(seconds, clock.Elapsed.TotalSeconds + Math.Max(seconds / 10, 5));
                while (clock.Elapsed.TotalSeconds < end && differences < Shown)
                {
                    if (judge.Check(unchecked(seed++)) is not { } report) continue;
                    differences++;
                    Console.WriteLine(report);
                }
                (instructions, runs) = (instructions + judge.Instructions, runs + judge.Compared);
                (faults, unjudged, endless) =
                    (faults + judge.Faults, unjudged + judge.Unjudged, endless + judge.Endless);
            }
        });
        double taken = clock.Elapsed.TotalSeconds;
        Console.WriteLine($"{instructions} instructions in {taken:f0} s, {instructions / taken:f0} per second; " +
            $"{runs} runs compared, {faults} ended with a fault, "
            + $"{unjudged} left the arena, {endless} did not end");
        Console.WriteLine(differences == 0 ? "no difference" : $"{differences} " +
            $"differences{(differences == Shown ? ", stopped" : "")}");
        return differences == 0 ? 0 : 1;
    }

    /// <summary>The oracle's signal stack belongs to a thread.</summary>
    internal static void OnItsOwnThread(Action work)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                work();
            }
            catch (Exception caught)
            {
                failure = caught;
            }
        });
        thread.Start();
        thread.Join();
        if (failure != null) System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
    }
}
