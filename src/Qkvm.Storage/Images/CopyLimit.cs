using System.Diagnostics;

namespace Qkvm.Storage.Images;

/// <summary>No more bytes in a second than that. From several threads.</summary>
/// <param name="bytesPerSecond">0 for no limit.</param>
public sealed class CopyLimit(long bytesPerSecond)
{
    readonly Stopwatch _clock = Stopwatch.StartNew();
    long _spent;

    public long BytesPerSecond => bytesPerSecond;

    /// <summary>Counts bytes.</summary>
    /// <returns>When there may be more, in seconds since the limit was made.</returns>
    public double Spend(long bytes) =>
        bytesPerSecond == 0 ? 0 : Interlocked.Add(ref _spent, bytes) / (double)bytesPerSecond;

    /// <summary>Seconds until then; negative when it is past.</summary>
    public double Until(double due) => due - _clock.Elapsed.TotalSeconds;

    /// <summary>Counts bytes, and waits until there may be more.</summary>
    public async ValueTask SpendAsync(long bytes)
    {
        double early = Until(Spend(bytes));
        if (early <= 0) return;
        await Task.Delay(TimeSpan.FromSeconds(Math.Min(early, int.MaxValue / 1000))).ConfigureAwait(false);
    }
}
