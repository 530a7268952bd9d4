using System.Diagnostics;

namespace Qkvm.Img.Copying;

/// <summary>-r: no more bytes in a second than that. From several threads.</summary>
/// <param name="bytesPerSecond">0 for no limit.</param>
sealed class RateLimit(long bytesPerSecond)
{
    readonly Stopwatch _clock = Stopwatch.StartNew();
    long _spent;

    public async ValueTask SpendAsync(long bytes)
    {
        if (bytesPerSecond == 0) return;
        double due = Interlocked.Add(ref _spent, bytes) / (double)bytesPerSecond;
        double early = due - _clock.Elapsed.TotalSeconds;
        if (early <= 0) return;
        await Task.Delay(TimeSpan.FromSeconds(Math.Min(early, int.MaxValue / 1000))).ConfigureAwait(false);
    }
}
