using Qkvm.Core.Audio;

namespace Qkvm.Backends.Audio;

/// <summary>-audiodev none: cards play at their rates, and nobody hears it; wavcapture does.</summary>
public static class NoneAudio
{
    public static readonly AudioModel Model = new("none", [],
        static (given, _) => AudioModel.Make(given, Model!.Name, null)) { Description = "plays nothing" };
}
