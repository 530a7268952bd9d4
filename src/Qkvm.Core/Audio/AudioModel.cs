using Qkvm.Core.Machine;

namespace Qkvm.Core.Audio;

/// <summary>The host side of sound as -audiodev names it.</summary>
public sealed record AudioModel : Model<IBackendHost, AudioHost>
{
    const int DefaultRate = 44100;
    const ulong DefaultPeriod = 10_000, MostPeriod = 1_000_000;    // microseconds
    const long Microsecond = 1000;
    static readonly string[] Types = ["u8", "s8", "u16", "s16", "u32", "s32", "f32"];

    public AudioModel(string name, Property[] own, Func<Properties, IBackendHost, AudioHost> create)
        : base(name, [.. own, .. Common], create) { }

    /// <summary>One that QEMU has and we have not.</summary>
    public static AudioModel Missing(string name, string why) =>
        new(name, [], static (_, _) => throw new InvalidOperationException("not built")) { NotBuilt = why };

    /// <summary>What every driver takes; of in. and out. alike.</summary>
    static Property[] Common =>
    [
        Property.Text("id"),
        Property.Number("timer-period", DefaultPeriod, 100, MostPeriod, "microseconds from one mixing to the next"),
        .. Direction("out."), .. Direction("in."),
    ];

    static Property[] Direction(string prefix) =>
    [
        Property.Missing($"{prefix}mixing-engine", "on"),
        Property.Missing($"{prefix}fixed-settings", "on", "leave it out: what cards play is converted"),
        Property.Number($"{prefix}frequency", DefaultRate, 1000, AudioFormat.MostRate, "frames a second"),
        Property.Number($"{prefix}channels", 2, 1, 2),
        Property.Number($"{prefix}voices", 1, 1, 64, "all are mixed, however many"),
        Property.Enum($"{prefix}format", "s16", Types, "of a sample"),
        Property.Number($"{prefix}buffer-length", 0, 0, uint.MaxValue, "microseconds; a file needs none"),
    ];

    /// <summary>What the host hears.</summary>
    public static AudioFormat Output(Properties given) => new((int)given.Number("out.frequency"),
        (SampleType)Array.IndexOf(Types, given.Text("out.format")), (int)given.Number("out.channels"));

    /// <param name="sink">Where all of it goes; null: nowhere.</param>
    public static AudioHost Make(Properties given, string driver, IAudioSink? sink)
    {
        var host = new AudioHost(given.Required("id"), driver, Output(given).Rate,
            (long)given.Number("timer-period") * Microsecond) { Owned = sink as IDisposable };
        if (sink != null) host.Add(sink);
        return host;
    }

    /// <summary>What cards play to that name none, where users gave none.</summary>
    public static AudioHost Silent() => new("none", "none", DefaultRate, (long)DefaultPeriod * Microsecond);
}
