using System.Text;
using Iced.Intel;
using Decoder = Iced.Intel.Decoder;
using Encoder = Iced.Intel.Encoder;

namespace Qkvm.Accel.Tests;

/// <summary>What the address of another instruction is for.</summary>
enum Aim { None, Branch, Memory, Immediate }

/// <summary>One instruction, with what its encoding needs to know of others.</summary>
sealed class SequenceItem(Instruction instruction)
{
    public Instruction Instruction = instruction;
    public Aim Aim;

    /// <summary>Whose address goes into this instruction.</summary>
    public SequenceItem? Target;

    /// <summary>The address is that of the target's last byte of this many: its immediate.</summary>
    public int FromEnd;

    /// <summary>Flags that are undefined before it runs.</summary>
    public ulong Undefined;

    /// <summary>C0 to C3 of the x87 that are.</summary>
    public ushort UndefinedX87;

    public ulong Address;
    public int Length;

    /// <summary>Without what places it.</summary>
    public SequenceItem Copy() =>
        new(Instruction) { Aim = Aim, FromEnd = FromEnd, Undefined = Undefined, UndefinedX87 = UndefinedX87 };
}

/// <summary>Instructions that can be laid out at any address, and thinned out.</summary>
sealed class Sequence(int bits)
{
    public List<SequenceItem> Items { get; init; } = [];
    public byte[] Bytes { get; private set; } = [];
    public ulong Start => Items[0].Address;

    /// <summary>An immediate of four bytes to be rewritten between runs.</summary>
    public SequenceItem? Patched { get; set; }

    /// <summary>False if something cannot be encoded, as a short branch that reaches too far.</summary>
    public bool Place(ulong start)
    {
        ulong at = start;
        foreach (SequenceItem item in Items)
        {
            item.Address = at;
            if (!Encode(item, null, at)) return false;
            at += (ulong)item.Length;
        }
        var writer = new Bytewise();
        foreach (SequenceItem item in Items)
        {
            int length = item.Length;
            if (!Encode(item, writer, item.Target is { } target
                ? target.Address + (ulong)(item.FromEnd == 0 ? 0 : target.Length - item.FromEnd) : 0)) return false;
            if (item.Length != length) throw new InvalidOperationException($"{item.Instruction} changed its length");
        }
        Bytes = [.. writer.Bytes];
        return true;
    }

    /// <summary>Without one instruction; what aimed at it aims at the next. Null for the last, which everything ends
    /// with.</summary>
    public Sequence? Without(int index)
    {
        if (index >= Items.Count - 1) return null;
        SequenceItem gone = Items[index], next = Items[index + 1];
        // What defines flags that may be read later stays.
        if ((gone.Undefined & ~next.Undefined) != 0 || (gone.UndefinedX87 & ~next.UndefinedX87) != 0) return null;
        var copies = Items.ToDictionary(item => item, item => item.Copy());
        foreach (SequenceItem item in Items)
            if (item.Target is { } target)
            {
                if (target == gone && item.Aim == Aim.Memory && item != gone) return null;
                copies[item].Target = copies[target == gone ? next : target];
            }
        return new Sequence(bits)
        {
            Items = [.. Items.Where(item => item != gone).Select(item => copies[item])],
            Patched = Patched == null || Patched == gone ? null : copies[Patched],
        };
    }

    public override string ToString()
    {
        var text = new StringBuilder();
        var formatter = new NasmFormatter();
        var output = new StringOutput();
        for (int i = 0, at = 0; i < Items.Count; at += Items[i++].Length)
        {
            var decoder = Decoder.Create(bits, new ByteArrayCodeReader(Bytes, at, Items[i].Length));
            decoder.IP = Items[i].Address;
            formatter.Format(decoder.Decode(), output);
            text.Append($"  {Items[i].Address:x} {Convert.ToHexString(Bytes, at, Items[i].Length),-24} " +
                $"{output.ToStringAndReset()}\n");
        }
        return text.ToString();
    }

    bool Encode(SequenceItem item, CodeWriter? writer, ulong target)
    {
        Instruction x = item.Instruction;
        switch (item.Aim)
        {
            case Aim.Branch: x.NearBranch64 = target; break;
            case Aim.Memory: x.MemoryDisplacement64 = target; break;
            case Aim.Immediate: x.Immediate32 = (uint)target; break;
        }
        if (!Encoder.Create(bits, writer ?? Nowhere.Writer).TryEncode(x, item.Address, out uint length, out _))
            return false;
        item.Length = (int)length;
        return true;
    }

    sealed class Bytewise : CodeWriter
    {
        public readonly List<byte> Bytes = [];
        public override void WriteByte(byte value) => Bytes.Add(value);
    }

    sealed class Nowhere : CodeWriter
    {
        public static readonly Nowhere Writer = new();
        public override void WriteByte(byte value) { }
    }
}
