using System.Text.Json;
using System.Text.Json.Nodes;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Virtio;

/// <summary>What the guest tells of its memory, asked for every few seconds: the properties guest-stats and
/// guest-stats-polling-interval.</summary>
sealed class BalloonStatistics
{
    const long Second = 1_000_000_000;
    const int LongestInterval = 100_000;                           // seconds

    /// <summary>By VIRTIO_BALLOON_S_ tag. Virtio 1.2, section 5.5.6.4.</summary>
    static readonly string[] s_names =
    [
        "stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults", "stat-free-memory",
        "stat-total-memory", "stat-available-memory", "stat-disk-caches", "stat-htlb-pgalloc", "stat-htlb-pgfail",
    ];

    readonly VirtioBalloon _balloon;
    readonly IVirtualClock _clock;
    readonly IVmTimer _timer;
    int _interval;                                                 // seconds; 0: nobody asks. Not migrated: a client's
    long _updated;                                                 // seconds since 1970; not migrated

    public BalloonStatistics(VirtioBalloon balloon, IVirtualClock clock)
    {
        (_balloon, _clock) = (balloon, clock);
        _timer = clock.CreateTimer(() =>
        {
            balloon.RequestStatistics();
            Arm();
        });
        balloon.StatisticsCame += () => _updated = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
    }

    public IEnumerable<QomProperty> Properties =>
    [
        new("guest-stats", "guest statistics", Read),
        new("guest-stats-polling-interval", "int", () => JsonValue.Create(_interval), SetInterval),
    ];

    JsonObject Read()
    {
        var stats = new JsonObject();
        for (int tag = 0; tag < s_names.Length; tag++) stats[s_names[tag]] = _balloon.Statistics[tag];
        return new JsonObject { ["stats"] = stats, ["last-update"] = _updated };
    }

    void SetInterval(JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out int seconds)
            || seconds is < 0 or > LongestInterval)
            throw new CommandException($"timer value must be from 0 to {LongestInterval} seconds");
        _interval = seconds;
        _timer.Cancel();
        Arm();
    }

    void Arm()
    {
        if (_interval > 0) _timer.ArmAt(_clock.Nanoseconds + _interval * Second);
    }
}
