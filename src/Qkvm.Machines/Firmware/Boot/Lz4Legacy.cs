using System.Buffers.Binary;

namespace Qkvm.Machines.Firmware.Boot;

/// <summary>Decodes LZ4's legacy frames, as Linux kernels are packed. Spec: LZ4 Frame Format 1.6, "Legacy frame"; LZ4
/// Block Format.</summary>
public static class Lz4Legacy
{
    public const uint Magic = 0x184C2102;

    const int MinMatch = 4, LongRun = 15, BlockSize = 8 << 20;

    /// <summary>Fills the output; the blocks, each of its own 8 MiB, are decoded at the same time.</summary>
    /// <exception cref="InvalidDataException">The frame is damaged, or of another size.</exception>
    public static void Decode(ReadOnlyMemory<byte> frame, Memory<byte> output)
    {
        if (frame.Length < 8 || BinaryPrimitives.ReadUInt32LittleEndian(frame.Span) != Magic) throw Damaged();
        var blocks = new List<(int At, int Size)>();
        for (int at = 4; at < frame.Length;)
        {
            if (frame.Length - at < 4) throw Damaged();
            uint size = BinaryPrimitives.ReadUInt32LittleEndian(frame.Span[at..]);
            at += 4;
            if (size > (uint)(frame.Length - at)) throw Damaged();
            blocks.Add((at, (int)size));
            at += (int)size;
        }
        if (blocks.Count != (output.Length + BlockSize - 1) / BlockSize) throw Damaged();
        Parallel.For(0, blocks.Count, i =>
        {
            int start = i * BlockSize;
            DecodeBlock(frame.Span.Slice(blocks[i].At, blocks[i].Size),
                output.Span.Slice(start, Math.Min(BlockSize, output.Length - start)));
        });
    }

    /// <summary>A block that fills the output.</summary>
    public static void DecodeBlock(ReadOnlySpan<byte> input, Span<byte> output)
    {
        int from = 0, to = 0;
        while (from < input.Length)
        {
            int token = input[from++];
            int literals = token >> 4;
            if (literals == LongRun) literals += LongLength(input, ref from);
            if (literals > input.Length - from || literals > output.Length - to) throw Damaged();
            input.Slice(from, literals).CopyTo(output[to..]);
            from += literals;
            to += literals;
            if (from == input.Length) break;                       // the last sequence has no match
            if (input.Length - from < 2) throw Damaged();
            int distance = BinaryPrimitives.ReadUInt16LittleEndian(input[from..]);
            from += 2;
            int match = token & LongRun;
            if (match == LongRun) match += LongLength(input, ref from);
            match += MinMatch;
            if (distance == 0 || distance > to || match > output.Length - to) throw Damaged();
            CopyMatch(output, to, distance, match);
            to += match;
        }
        if (to != output.Length) throw Damaged();
    }

    /// <summary>A match may reach into itself: then what was copied is copied again.</summary>
    static void CopyMatch(Span<byte> output, int to, int distance, int length)
    {
        int from = to - distance;
        while (length > 0)
        {
            int count = Math.Min(length, to - from);
            output.Slice(from, count).CopyTo(output[to..]);
            to += count;
            length -= count;
        }
    }

    static int LongLength(ReadOnlySpan<byte> input, ref int from)
    {
        int length = 0;
        while (true)
        {
            if (from >= input.Length || length > BlockSize) throw Damaged();
            int more = input[from++];
            length += more;
            if (more != byte.MaxValue) return length;
        }
    }

    static InvalidDataException Damaged() => new("damaged LZ4 data");
}
