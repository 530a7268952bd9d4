using Qkvm.Core.Machine;

namespace Qkvm.Backends.Objects;

/// <summary>-object rng-random: bytes of one of the host's generators.</summary>
/// <remarks>Deviation: the kernel's own alone, /dev/urandom and /dev/random, which do not wait once the host has
/// booted.</remarks>
public sealed class RngRandom : IEntropySource, IDisposable
{
    static readonly string[] Generators = ["/dev/urandom", "/dev/random"];

    public static readonly ObjectModel Model = new("rng-random",
        [Property.Text("filename", Generators[0], "/dev/urandom or /dev/random")],
        static (properties, _) =>
        {
            string path = properties.Required("filename");
            if (!Generators.Contains(path))
                throw properties.Error($"filename={path}: a source other than {string.Join(" and ", Generators)} may "
                    + "wait, which is not built yet");
            try { return new RngRandom(File.OpenHandle(path)); }
            catch (Exception e) when (e is IOException
                or UnauthorizedAccessException) { throw properties.Error($"cannot read {path}: {e.Message}", e); }
        }) { Description = "a generator of the host" };

    readonly Microsoft.Win32.SafeHandles.SafeFileHandle _file;

    RngRandom(Microsoft.Win32.SafeHandles.SafeFileHandle file) => _file = file;

    public void Fill(Span<byte> data)
    {
        while (data.Length > 0) data = data[RandomAccess.Read(_file, data, 0)..];
    }

    public void Dispose() => _file.Dispose();
}
