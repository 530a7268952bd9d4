using Qkvm.Core.Audio;

namespace Qkvm.Backends.Audio;

/// <summary>-audiodev wav: what cards play, as a file.</summary>
public static class WavAudio
{
    public static readonly AudioModel Model = new("wav",
        [Property.Text("path", "qemu.wav", "the file, which is written anew")],
        static (given, host) =>
        {
            string path = given.Required("path");
            AudioFormat format = AudioModel.Output(given);
            if (format.Type is SampleType.S8 or SampleType.U16 or SampleType.U32)
                throw given.Error($"out.format={given.Text("out.format")}: a wav file has u8, s16, s32 or f32");
            FileStream file;
            try { file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0); }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw given.Error($"Failed to open wave file '{path}': {e.Message}", e);
            }
            if (!file.CanSeek) throw given.Error($"path={path} is no regular file");
            return AudioModel.Make(given, Model!.Name,
                new WavFile(file, path, format, why => host.Warn($"{given.Owner}: {why}")));
        }) { Description = "what cards play, as a file" };
}
