namespace Qkvm.Core.State;

/// <summary>Saves or loads named fields: a device names each mutable field once, in its Exchange, for both directions.
/// A field that is absent when loading keeps its value.</summary>
public abstract class StateStream
{
    public abstract bool IsLoading { get; }

    /// <summary>A nested group, such as one of several counters.</summary>
    public abstract StateStream Group(string name, int index = 0);

    public abstract void Field(string name, ref ulong value);

    /// <summary>A byte block of fixed length; a loaded block of another length is refused.</summary>
    public abstract void Block(string name, Span<byte> data);

    /// <summary>A byte block of varying length; a loaded one above the limit is refused.</summary>
    public abstract void Blob(string name, ref byte[] data, int limit);

    public void Field(string name, ref bool value)
    {
        ulong raw = value ? 1UL : 0;
        Field(name, ref raw);
        value = raw != 0;
    }

    public void Field(string name, ref byte value) { ulong raw = value; Field(name, ref raw);
        value = Narrow(name, raw, byte.MaxValue, (byte)raw); }
    public void Field(string name, ref ushort value) { ulong raw = value; Field(name, ref raw);
        value = Narrow(name, raw, ushort.MaxValue, (ushort)raw); }
    public void Field(string name, ref uint value) { ulong raw = value; Field(name, ref raw);
        value = Narrow(name, raw, uint.MaxValue, (uint)raw); }
    public void Field(string name, ref int value) { ulong raw = (ulong)(long)value; Field(name, ref raw);
        value = (int)raw; }
    public void Field(string name, ref long value) { ulong raw = (ulong)value; Field(name, ref raw); value = (long)raw;
        }

    static T Narrow<T>(string name, ulong raw, ulong limit, T value) =>
        raw <= limit ? value : throw new InvalidStateException($"{name}: {raw:x} is too large");
}

/// <summary>A saved state that cannot be: truncated, forged or of another machine.</summary>
public sealed class InvalidStateException(string message) : Exception(message);
