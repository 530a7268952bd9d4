using Qkvm.Control.Hmp;
using Qkvm.Core.Audio;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>wavcapture, stopcapture and info capture of the human monitor: what is played to an audiodev, as a
/// file.</summary>
/// <remarks>It grows while the guest plays, and is a whole one at each moment.</remarks>
static class AudioCapture
{
    const int DefaultRate = 44100;
    const UnixFileMode ForAll = (UnixFileMode)0x1B6;               // 0666, less the umask

    public static readonly Command Start = new HumanCommand("wavcapture",
        "path audiodev [frequency [bits [channels]]]",
        $"capture audio to a wave file (default frequency={DefaultRate} bits=16 channels=2)", (monitor, words) =>
    {
        string path = words.Word(), audiodev = words.Word();
        int rate = Optional(words, DefaultRate), bits = Optional(words, 16), channels = Optional(words, 2);
        words.End();
        MachineBackends backends = monitor.Context.Backends;
        AudioHost host = backends.Audiodevs.Find(candidate => candidate.Id == audiodev)
            ?? throw new CommandException($"Audiodev '{audiodev}' not found");
        if (bits is not (8 or 16)) throw Failed($"incorrect bit count {bits}, must be 8 or 16");
        if (channels is not (1 or 2)) throw Failed($"incorrect channel count {channels}, must be 1 or 2");
        if (rate is < 1 or > AudioFormat.MostRate)
            throw Failed($"incorrect frequency {rate}, must be 1 to {AudioFormat.MostRate}");
        FileStream file = OutputFile.Create(path, ForAll, "Failed to open wave file");
        if (!file.CanSeek)
        {
            file.Dispose();
            throw Failed($"'{path}' is no regular file");
        }
        var capture = new WavFile(file, path, new AudioFormat(rate, bits == 8 ? SampleType.U8 : SampleType.S16,
            channels), monitor.Context.Host.Warn);
        host.Add(capture);
        backends.Captures.Add((host, capture));
    });

    public static readonly Command Stop = new HumanCommand("stopcapture", "capture index", "stop capture",
        static (monitor, words) =>
    {
        uint index = words.Integer();
        words.End();
        List<(AudioHost Audiodev, WavFile File)> captures = monitor.Context.Backends.Captures;
        if (index >= captures.Count) return;                       // as in QEMU
        (AudioHost host, WavFile file) = captures[captures.Count - 1 - (int)index];
        captures.RemoveAt(captures.Count - 1 - (int)index);
        host.Remove(file);
        file.Dispose();
    });

    /// <summary>The newest first.</summary>
    public static readonly Command Info = new HumanCommand("info capture", "", "show capture information",
        static (monitor, words) =>
    {
        words.End();
        List<(AudioHost Audiodev, WavFile File)> captures = monitor.Context.Backends.Captures;
        for (int i = 0; i < captures.Count; i++)
        {
            WavFile file = captures[captures.Count - 1 - i].File;
            monitor.Write($"[{i}]: Capturing audio({file.Format.Rate},{file.Format.SampleSize * 8},"
                + $"{file.Format.Channels}) to {file.Path}: {file.Length} bytes\n");
        }
    });

    static int Optional(MonitorArguments words, int fallback) => words.HasMore ? (int)words.Integer() : fallback;

    static CommandException Failed(string why) => new($"{why}\nFailed to add wave capture");
}
