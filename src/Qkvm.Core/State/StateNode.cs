using System.Text;

namespace Qkvm.Core.State;

/// <summary>A saved state as a tree of named values: what <see cref="Save"/> makes and <see cref="Load"/>
/// takes.</summary>
public sealed class StateNode
{
    readonly SortedDictionary<string, ulong> _numbers = new(StringComparer.Ordinal);
    readonly SortedDictionary<string, byte[]> _blocks = new(StringComparer.Ordinal);
    readonly SortedDictionary<string, StateNode> _groups = new(StringComparer.Ordinal);

    public IReadOnlyDictionary<string, ulong> Numbers => _numbers;
    public IReadOnlyDictionary<string, byte[]> Blocks => _blocks;
    public IReadOnlyDictionary<string, StateNode> Groups => _groups;

    public static StateNode Save(Action<StateStream> exchange)
    {
        var node = new StateNode();
        exchange(new Writer(node));
        return node;
    }

    public void Load(Action<StateStream> exchange) => exchange(new Reader(this));

    /// <summary>One line a value, sorted: for comparisons and <c>Verify</c>.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        Print(text, "");
        return text.ToString();
    }

    internal StateNode AddGroup(string name) => _groups[name] = new StateNode();
    internal void Add(string name, ulong value) => _numbers[name] = value;
    internal void Add(string name, byte[] value) => _blocks[name] = value;

    void Print(StringBuilder text, string prefix)
    {
        foreach (var (name, value) in _numbers)
            text.Append(prefix).Append(name).Append(" = ").Append(value.ToString("x")).Append('\n');
        foreach (var (name, value) in _blocks)
            text.Append(prefix).Append(name).Append(" = ").Append(Convert.ToHexString(value)).Append('\n');
        foreach (var (name, group) in _groups) group.Print(text, prefix + name + ".");
    }

    static string Key(string name, int index) => index == 0 ? name : $"{name}[{index}]";

    sealed class Writer(StateNode node) : StateStream
    {
        public override bool IsLoading => false;
        public override StateStream Group(string name, int index) => new Writer(node.AddGroup(Key(name, index)));
        public override void Field(string name, ref ulong value) => node.Add(name, value);
        public override void Block(string name, Span<byte> data) => node.Add(name, data.ToArray());
        public override void Blob(string name, ref byte[] data, int limit) => node.Add(name, (byte[])data.Clone());
    }

    sealed class Reader(StateNode node) : StateStream
    {
        public override bool IsLoading => true;

        public override StateStream Group(string name, int index) =>
            new Reader(node._groups.TryGetValue(Key(name, index), out StateNode? found) ? found : new StateNode());

        public override void Field(string name, ref ulong value)
        {
            if (node._numbers.TryGetValue(name, out ulong found)) value = found;
        }

        public override void Block(string name, Span<byte> data)
        {
            if (!node._blocks.TryGetValue(name, out byte[]? found)) return;
            if (found.Length != data.Length)
                throw new InvalidStateException($"{name}: {found.Length} bytes instead of {data.Length}");
            found.CopyTo(data);
        }

        public override void Blob(string name, ref byte[] data, int limit)
        {
            if (!node._blocks.TryGetValue(name, out byte[]? found)) return;
            if (found.Length > limit)
                throw new InvalidStateException($"{name}: {found.Length} bytes, at most {limit} are allowed");
            data = (byte[])found.Clone();
        }
    }
}
