using System.Runtime.InteropServices;

namespace Qkvm.Host;

// SAFETY: both buffers are pinned for the time of the call, which is told their lengths.
/// <summary>Decompression by the host's libzstd, which is loaded at the first use (RFC 8878).</summary>
public static unsafe partial class Zstd
{
    const string Library = "libzstd.so.1";

    /// <summary>Fills the target from the start of a frame; the source may have padding behind it.</summary>
    /// <returns>False where the data is damaged or too short.</returns>
    /// <exception cref="DllNotFoundException">The host has no libzstd.</exception>
    public static bool TryDecompress(ReadOnlySpan<byte> source, Span<byte> target)
    {
        void* stream = ZSTD_createDStream();
        if (stream == null) return false;
        try
        {
            fixed (byte* from = source)
            fixed (byte* to = target)
            {
                var input = new Piece { Start = from, Length = (nuint)source.Length };
                var output = new Piece { Start = to, Length = (nuint)target.Length };
                while (output.Position < output.Length)
                {
                    (nuint readBefore, nuint writtenBefore) = (input.Position, output.Position);
                    if (ZSTD_isError(ZSTD_decompressStream(stream, &output, &input)) != 0) return false;
                    if (input.Position == readBefore && output.Position == writtenBefore) return false;
                }
            }
            return true;
        }
        finally { ZSTD_freeDStream(stream); }
    }

    [LibraryImport(Library)]
    private static partial void* ZSTD_createDStream();

    [LibraryImport(Library)]
    private static partial nuint ZSTD_freeDStream(void* stream);

    [LibraryImport(Library)]
    private static partial nuint ZSTD_decompressStream(void* stream, Piece* output, Piece* input);

    [LibraryImport(Library)]
    private static partial uint ZSTD_isError(nuint code);

    /// <summary>ZSTD_inBuffer and ZSTD_outBuffer.</summary>
    struct Piece
    {
        public void* Start;
        public nuint Length;
        public nuint Position;
    }
}
