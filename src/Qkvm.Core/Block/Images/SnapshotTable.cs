using System.Globalization;

namespace Qkvm.Core.Block.Images;

/// <summary>Snapshots as people read them: <c>info snapshots</c>, <c>qemu-img snapshot -l</c>.</summary>
public static class SnapshotTable
{
    const string Heading = "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n";
    const ulong NanosecondsPerMillisecond = 1_000_000;

    /// <summary>A line each below the headings; dates are local.</summary>
    public static string Text(IEnumerable<BlockSnapshot> snapshots) => Heading + string.Concat(snapshots.Select(Line));

    static string Line(BlockSnapshot s)
    {
        ulong milliseconds = s.VmClock / NanosecondsPerMillisecond;
        TimeSpan ran = TimeSpan.FromMilliseconds((long)Math.Min(milliseconds, int.MaxValue * 1000UL));
        string date = DateTimeOffset.FromUnixTimeSeconds(s.Seconds).LocalDateTime
            .ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture);
        string clock = $"{(long)ran.TotalHours:00}:{ran.Minutes:00}:{ran.Seconds:00}.{ran.Milliseconds:000}";
        string size = ByteCount.Text((long)Math.Min(s.VmStateSize, long.MaxValue));
        return $"{Plain(s.Id),-9} {Plain(s.Name),-16} {size,8}{date,20}{clock,13}{s.InstructionCount,11}\n";
    }

    /// <summary>An image is no friend: what would move the terminal's cursor is not shown.</summary>
    public static string Plain(string text) =>
        string.Create(text.Length, text, static (to, from) =>
        {
            for (int i = 0; i < to.Length; i++) to[i] = char.IsControl(from[i]) ? '?' : from[i];
        });
}
