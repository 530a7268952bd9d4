using System.Text;

namespace Qkvm.Core.State;

/// <summary>A saved state as a tree of named values: what <see cref="Save"/> makes and <see cref="Load"/>
/// takes.</summary>
public sealed class StateNode
{
    /// <summary>The version of a section stands beside its fields under this name, which no field has.</summary>
    const string VersionName = "#version";

    readonly SortedDictionary<string, ulong> _numbers = new(StringComparer.Ordinal);
    readonly SortedDictionary<string, byte[]> _blocks = new(StringComparer.Ordinal);
    readonly SortedDictionary<string, StateNode> _groups = new(StringComparer.Ordinal);

    public IReadOnlyDictionary<string, ulong> Numbers => _numbers;
    public IReadOnlyDictionary<string, byte[]> Blocks => _blocks;
    public IReadOnlyDictionary<string, StateNode> Groups => _groups;

    public static StateNode Save(Action<StateStream> exchange)
    {
        var node = new StateNode();
        exchange(new Writer(node, 1));
        return node;
    }

    /// <summary>Loads all of it or nothing: where anything is refused, what stood before is put back.</summary>
    /// <exception cref="InvalidStateException">Something is absent, too much, cut, too large or impossible; which
    /// section and field.</exception>
    public void Load(Action<StateStream> exchange)
    {
        StateNode before = Save(exchange);
        try { Read(exchange); }
        catch
        {
            before.Read(exchange);
            throw;
        }
    }

    /// <summary>One line a value, sorted: for comparisons and <c>Verify</c>.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        Print(text, "");
        return text.ToString();
    }

    public StateNode AddGroup(string name) => _groups[name] = new StateNode();
    public void Add(string name, ulong value) => _numbers[name] = value;
    public void Add(string name, byte[] value) => _blocks[name] = value;
    public bool Remove(string name) => _numbers.Remove(name) | _blocks.Remove(name) | _groups.Remove(name);

    void Read(Action<StateStream> exchange)
    {
        var reader = new Reader(this, "", 1);
        exchange(reader);
        reader.Finish();
    }

    void Print(StringBuilder text, string prefix)
    {
        foreach (var (name, value) in _numbers)
            text.Append(prefix).Append(name).Append(" = ").Append(value.ToString("x")).Append('\n');
        foreach (var (name, value) in _blocks)
            text.Append(prefix).Append(name).Append(" = ").Append(Convert.ToHexString(value)).Append('\n');
        foreach (var (name, group) in _groups) group.Print(text, prefix + name + ".");
    }

    static string Key(string name, int index) => index == 0 ? name : $"{name}[{index}]";

    sealed class Writer(StateNode node, int version) : StateStream
    {
        public override bool IsLoading => false;
        public override int Version => version;

        public override StateStream Section(string name, int version)
        {
            StateNode section = node.AddGroup(Fresh(name, node._groups.ContainsKey(name)));
            section.Add(VersionName, (ulong)version);
            return new Writer(section, version);
        }

        public override StateStream Group(string name, int index)
        {
            string key = Key(name, index);
            return new Writer(node.AddGroup(Fresh(key, node._groups.ContainsKey(key))), version);
        }

        public override void Field(string name, ref ulong value) =>
            node.Add(Fresh(name, node._numbers.ContainsKey(name)), value);
        public override void Block(string name, Span<byte> data) =>
            node.Add(Fresh(name, node._blocks.ContainsKey(name)), data.ToArray());
        public override void Blob(string name, ref byte[] data, int limit) =>
            node.Add(Fresh(name, node._blocks.ContainsKey(name)), (byte[])data.Clone());

        static string Fresh(string name, bool known) => known
            ? throw new InvalidOperationException($"'{name}' is named twice in one group") : name;
    }

    sealed class Reader(StateNode node, string path, int version) : StateStream
    {
        readonly HashSet<string> _taken = new(StringComparer.Ordinal);
        readonly List<Reader> _children = [];

        public override bool IsLoading => true;
        public override int Version => version;

        public override StateStream Section(string name, int version)
        {
            StateNode section = Take(node._groups, name, "section");
            if (!section._numbers.TryGetValue(VersionName, out ulong saved))
                throw Refuse(name, "the section has no version");
            if (saved < 1 || saved > (ulong)version)
                throw Refuse(name, $"version {saved} was saved, this program reads versions 1 to {version}");
            Reader reader = Child(section, name, (int)saved);
            reader._taken.Add(VersionName);
            return reader;
        }

        public override StateStream Group(string name, int index)
        {
            string key = Key(name, index);
            return Child(Take(node._groups, key, "group"), key, version);
        }

        public override void Field(string name, ref ulong value) => value = Take(node._numbers, name, "field");

        public override void Block(string name, Span<byte> data)
        {
            byte[] found = Take(node._blocks, name, "block");
            if (found.Length != data.Length) throw Refuse(name, $"{found.Length} bytes instead of {data.Length}");
            found.CopyTo(data);
        }

        public override void Blob(string name, ref byte[] data, int limit)
        {
            byte[] found = Take(node._blocks, name, "block");
            if (found.Length > limit) throw Refuse(name, $"{found.Length} bytes, at most {limit} are allowed");
            data = (byte[])found.Clone();
        }

        public override InvalidStateException Refuse(string name, string why) => new($"{path}{name}: {why}");

        /// <summary>What was saved and nobody asked for belongs to another machine.</summary>
        public void Finish()
        {
            foreach (string name in node._numbers.Keys.Concat(node._blocks.Keys).Concat(node._groups.Keys))
                if (!_taken.Contains(name)) throw Refuse(name, "this machine has no such state");
            foreach (Reader child in _children) child.Finish();
        }

        T Take<T>(SortedDictionary<string, T> values, string name, string kind)
        {
            _taken.Add(name);
            return values.TryGetValue(name, out T? found) ? found : throw Refuse(name, $"the {kind} is absent");
        }

        Reader Child(StateNode group, string name, int version)
        {
            var child = new Reader(group, $"{path}{name}.", version);
            _children.Add(child);
            return child;
        }
    }
}
