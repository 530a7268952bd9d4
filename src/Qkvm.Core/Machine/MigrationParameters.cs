using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Qkvm.Core.Machine;

[JsonConverter(typeof(NamedEnum<MultiFdCompression>))]
public enum MultiFdCompression { None, Zlib, Zstd }

/// <param name="Persistent">What becomes of the bitmap at its new place: its image keeps it, or not; null: as it
/// was.</param>
public sealed record BitmapMigrationBitmapAliasTransform(bool? Persistent = null);

/// <param name="Alias">What the other side calls it.</param>
public sealed record BitmapMigrationBitmapAlias(string Name, string Alias,
    BitmapMigrationBitmapAliasTransform? Transform = null);

public sealed record BitmapMigrationNodeAlias(string NodeName, string Alias,
    IReadOnlyList<BitmapMigrationBitmapAlias> Bitmaps);

/// <summary>How a migration would be done, by QMP's names: what is null stays as it is where parameters are set.
/// </summary>
/// <param name="MaxBandwidth">Bytes a second.</param>
/// <param name="DowntimeLimit">Milliseconds; so are announce-… and the checkpoint's delay.</param>
/// <param name="TlsCreds">A text; null counts as the empty one, and so do the other two.</param>
public sealed record MigrationParameters(
    long? AnnounceInitial = null, long? AnnounceMax = null, long? AnnounceRounds = null, long? AnnounceStep = null,
    int? CompressLevel = null, int? CompressThreads = null, bool? CompressWaitThread = null,
    int? DecompressThreads = null, int? ThrottleTriggerThreshold = null, int? CpuThrottleInitial = null,
    int? CpuThrottleIncrement = null, bool? CpuThrottleTailslow = null, int? MaxCpuThrottle = null,
    JsonValue? TlsCreds = null, JsonValue? TlsHostname = null, JsonValue? TlsAuthz = null, ulong? MaxBandwidth = null,
    ulong? DowntimeLimit = null, uint? XCheckpointDelay = null, bool? BlockIncremental = null,
    int? MultifdChannels = null, MultiFdCompression? MultifdCompression = null, int? MultifdZlibLevel = null,
    int? MultifdZstdLevel = null, ulong? XbzrleCacheSize = null, ulong? MaxPostcopyBandwidth = null,
    IReadOnlyList<BitmapMigrationNodeAlias>? BlockBitmapMapping = null)
{
    /// <summary>A machine's when it starts.</summary>
    public static MigrationParameters Initial => new(50, 550, 5, 100, 1, 8, true, 2, 50, 20, 10, false, 99, Empty,
        Empty, Empty, 128 << 20, 300, 20000, false, 2, Machine.MultiFdCompression.None, 1, 1, 64 << 20, 0);

    static JsonValue Empty => JsonValue.Create("");
}
