using System.Buffers.Binary;
using Qkvm.Core.Block;

namespace Qkvm.Hw.NineP;

/// <summary>A message and its answer. Reused.</summary>
public class NinePRequest
{
    public const int HeaderLength = 7;                             // size, type, tag
    public const int DataOffset = HeaderLength + sizeof(uint);     // of what is read, behind its count

    /// <summary>Room for a message without what is written: 16 names, or a name and a link's target.</summary>
    const int Room = 8192;

    readonly byte[] _message = new byte[Room], _answer = new byte[Room];

    /// <summary>Of the client: its message, as the guest may change it meanwhile.</summary>
    internal ScatterList Source { get; private set; }

    /// <summary>Where the answer goes.</summary>
    internal ScatterList Target { get; private set; }

    /// <summary>The message, or its beginning, as it was once.</summary>
    internal ReadOnlySpan<byte> Bytes => _message.AsSpan(0, _copied);

    internal Span<byte> Answer => _answer;

    int _copied;

    /// <summary>As the message says.</summary>
    internal uint Size { get; private set; }
    internal byte Type => _message[4];

    public ushort Tag => BinaryPrimitives.ReadUInt16LittleEndian(_message.AsSpan(5));

    /// <summary>flush(5).</summary>
    public bool IsFlush => Type == (byte)Message.Flush && _copied >= HeaderLength + sizeof(ushort);

    /// <summary>The tag of the message that a flush is about.</summary>
    public ushort Flushed => BinaryPrimitives.ReadUInt16LittleEndian(_message.AsSpan(HeaderLength));

    /// <summary>Of the answer: first bytes of it, and what was read, which is behind them already.</summary>
    public ReadOnlySpan<byte> Reply => _answer.AsSpan(0, _replied);
    public long Data { get; internal set; }

    int _replied;

    internal SlowWork? Slow { get; set; }

    /// <summary>It is not answered yet: what is left to do may take time, and any thread may do it.</summary>
    public bool IsSlow => Slow != null;

    /// <summary>What is left to do may begin when this has completed; null: now.</summary>
    public Task? Until => Slow?.Until;

    /// <summary>Not one bit of an answer has room.</summary>
    public bool IsLost { get; private set; }

    /// <summary>False: there is no message.</summary>
    public bool Take(in ScatterList source, in ScatterList target)
    {
        (Source, Target, Data, Slow, IsLost) = (source, target, 0, null, false);
        if (source.Length < HeaderLength) return false;
        _copied = (int)Math.Min(source.Length, Room);
        source.Slice(0, _copied).CopyTo(_message);
        Size = BinaryPrimitives.ReadUInt32LittleEndian(_message);
        _copied = (int)Math.Min(_copied, Math.Max(Size, HeaderLength));
        return true;
    }

    /// <summary>The answer has so many bytes beside <see cref="Data"/>; false: there is no room for it.</summary>
    internal bool Seal(byte type, int length, long most)
    {
        long total = length + Data;
        if (total > Target.Length || total > most) return false;
        BinaryPrimitives.WriteUInt32LittleEndian(_answer, (uint)total);
        _answer[4] = type;
        BinaryPrimitives.WriteUInt16LittleEndian(_answer.AsSpan(5), Tag);
        _replied = length;
        return true;
    }

    internal void Lose() => (IsLost, _replied, Data) = (true, 0, 0);

    /// <summary>Forgets the guest's memory.</summary>
    public void Release() => (Source, Target, Slow) = (default, default, null);
}
