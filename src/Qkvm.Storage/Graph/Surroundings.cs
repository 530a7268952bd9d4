using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers;

namespace Qkvm.Storage.Graph;

/// <summary>What a node has from its parent where its own options are silent.</summary>
struct Surroundings
{
    public string Owner { get; init; }
    public CacheMode Cache { get; set; }
    public bool ReadOnly;
    public bool AutoReadOnly { get; set; }
    public bool ForceShare { get; set; }
    public bool Discard { get; set; }
    public DetectZeroes DetectZeroes { get; set; }

    /// <summary>The name was typed, not found in an image.</summary>
    public bool AsUser { get; init; }

    /// <summary>The image tool's: messages have QEMU's words and nothing more.</summary>
    public bool IsTool { get; init; }

    /// <summary>What the image lies over is not opened.</summary>
    public bool IsAlone { get; init; }

    /// <summary>Nobody is going to read the disk, only what the image says of itself.</summary>
    public bool IsUnread { get; init; }

    /// <summary>It is opened to be checked.</summary>
    public bool IsChecked { get; init; }

    /// <summary>Images on the way from the top, for finding loops.</summary>
    public string[]? Chain { get; init; }
    public int Depth { get; init; }

    /// <summary>The same with a node's own options.</summary>
    public readonly Surroundings For(Options options)
    {
        Surroundings own = this;
        own.Cache = CacheMode.Of(options, Cache);
        own.ReadOnly = options.Bool("read-only") ?? ReadOnly;
        own.AutoReadOnly = options.Bool("auto-read-only") ?? AutoReadOnly;
        own.ForceShare = options.Bool("force-share") ?? ForceShare;
        own.Discard = options.Text("discard") switch
        {
            null => Discard,
            "unmap" or "on" => true,
            "ignore" or "off" => false,
            string other =>
                throw new ConfigurationException($"Parameter 'discard' does not accept value '{other}'; there are " +
                "unmap and ignore"),
        };
        own.DetectZeroes = options.Text("detect-zeroes") switch
        {
            null or "off" => DetectZeroes.Off,
            "on" => DetectZeroes.On,
            "unmap" when own.Discard => DetectZeroes.Unmap,
            "unmap" =>
                throw new ConfigurationException("setting detect-zeroes to unmap is not allowed without setting " +
                "discard operation to unmap"),
            string other =>
                throw new ConfigurationException($"Parameter 'detect-zeroes' does not accept value '{other}'; there " +
                "are off, on and unmap"),
        };
        return own;
    }

    public readonly NodeOptions Node(string name) =>
        new(name) { ReadOnly = ReadOnly, Discard = Discard, DetectZeroes = DetectZeroes };
}
