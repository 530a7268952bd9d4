using System.IO.Compression;

namespace Qkvm.Backends.Display.Encodings;

/// <summary>One of zlib's streams of a viewer, which lasts as long as its connection: what is written is whole at
/// the end of each piece. Spec: RFC 1950, and RFC 6143, section 7.7.6.</summary>
sealed class DeflateStream : IDisposable
{
    readonly Sink _sink = new();
    readonly ZLibStream _zlib;

    /// <param name="level">0 to 9, deflate's own.</param>
    public DeflateStream(int level) =>
        _zlib = new ZLibStream(_sink, new ZLibCompressionOptions { CompressionLevel = level }, leaveOpen: false);

    /// <summary>Appends a piece's compressed bytes to an output.</summary>
    public void Append(VncOutput output, ReadOnlySpan<byte> data)
    {
        _sink.Output = output;
        _zlib.Write(data);
        _zlib.Flush();
    }

    /// <summary>What the library still wants to say at the end of the stream goes nowhere.</summary>
    public void Dispose()
    {
        _sink.Output = null;
        _zlib.Dispose();
    }

    sealed class Sink : Stream
    {
        public VncOutput? Output { private get; set; }

        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => throw new NotSupportedException();
        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> buffer) => Output?.Bytes(buffer);
        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));
        public override void Flush() { }
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
