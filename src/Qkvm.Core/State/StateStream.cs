namespace Qkvm.Core.State;

/// <summary>Saves or loads named fields: a device names each mutable field once, in its Exchange, for both
/// directions.</summary>
/// <remarks>Loading trusts nothing: a field or group that is absent, of another kind or too large is an
/// <see cref="InvalidStateException"/> that names its section and itself, and so is one that nobody asked for. What
/// later versions of a section added stands behind
/// <see cref="Since"/>.</remarks>
public abstract class StateStream
{
    public abstract bool IsLoading { get; }

    /// <summary>The version of the section that is saved, or of the one that is loaded.</summary>
    public virtual int Version => 1;

    /// <summary>The state of one thing that may change its fields alone: named by its place, not by its
    /// order.</summary>
    /// <param name="version">What this program writes. It reads this one and all before.</param>
    public virtual StateStream Section(string name, int version = 1) => Group(name);

    /// <summary>Whether fields that a version added are there: always when saving.</summary>
    public bool Since(int version) => !IsLoading || Version >= version;

    /// <summary>A nested group, such as one of several counters.</summary>
    public abstract StateStream Group(string name, int index = 0);

    public abstract void Field(string name, ref ulong value);

    /// <summary>A byte block of fixed length; a loaded block of another length is refused.</summary>
    public abstract void Block(string name, Span<byte> data);

    /// <summary>A byte block of varying length; a loaded one above the limit is refused.</summary>
    public abstract void Blob(string name, ref byte[] data, int limit);

    /// <summary>What is wrong with a loaded field, as an exception that names it and where it stands.</summary>
    public virtual InvalidStateException Refuse(string name, string why) => new($"{name}: {why}");

    public void Field(string name, ref bool value)
    {
        ulong raw = value ? 1UL : 0;
        Field(name, ref raw);
        value = raw <= 1 ? raw != 0 : throw Refuse(name, $"{raw:x} is neither 0 nor 1");
    }

    public void Field(string name, ref byte value) => value = (byte)Unsigned(name, value, byte.MaxValue);
    public void Field(string name, ref ushort value) => value = (ushort)Unsigned(name, value, ushort.MaxValue);
    public void Field(string name, ref uint value) => value = (uint)Unsigned(name, value, uint.MaxValue);

    public void Field(string name, ref int value)
    {
        long wide = value;
        Field(name, ref wide);
        value = wide is >= int.MinValue and <= int.MaxValue ? (int)wide
            : throw Refuse(name, $"{wide} needs more than 32 bits");
    }

    public void Field(string name, ref long value)
    {
        ulong raw = (ulong)value;
        Field(name, ref raw);
        value = (long)raw;
    }

    /// <summary>A number that must lie in a range: an index, a count.</summary>
    public void Field(string name, ref int value, int min, int max)
    {
        Field(name, ref value);
        if (value < min || value > max) throw Refuse(name, $"{value} is not in {min} to {max}");
    }

    ulong Unsigned(string name, ulong value, ulong limit)
    {
        Field(name, ref value);
        return value <= limit ? value : throw Refuse(name, $"{value:x} is too large");
    }
}

/// <summary>A saved state that cannot be: truncated, forged or of another machine.</summary>
public sealed class InvalidStateException(string message) : Exception(message);
