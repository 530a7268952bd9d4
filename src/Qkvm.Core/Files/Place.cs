namespace Qkvm.Core.Files;

/// <summary>Where a file is: a name in a folder, which is a place itself. Places move with what is renamed.</summary>
public sealed class Place
{
    readonly PlaceTree _tree;
    Dictionary<byte[], Place>? _children;
    Place? _folder;
    byte[] _name;
    int _uses;

    internal Place(PlaceTree tree, Place? folder, byte[] name) => (_tree, _folder, _name) = (tree, folder, name);

    /// <summary>Null: it is the root, or what stood there is gone.</summary>
    public Place? Folder => _folder;

    /// <summary>In its folder, ending in NUL; "." of the root.</summary>
    public ReadOnlySpan<byte> Name => _name;

    public bool IsRoot => this == _tree.Root;

    /// <summary>It, or a folder above it, was removed: no name leads there.</summary>
    public bool IsGone
    {
        get
        {
            Place at = this;
            while (at._folder is { } above) at = above;
            return !at.IsRoot;
        }
    }

    /// <summary>The same, or below it.</summary>
    public bool IsWithin(Place other)
    {
        for (Place? at = this; at != null; at = at._folder)
            if (at == other) return true;
        return false;
    }

    public void Hold() => _uses++;

    /// <summary>Ends a use; a place that nobody uses is forgotten.</summary>
    public void Release()
    {
        Place? at = this;
        while (at != null && --at._uses == 0 && !at.IsRoot)
        {
            Place? above = at._folder;
            above?._children!.Remove(at._name);
            _tree.Count--;
            at = above;
        }
    }

    /// <summary>A name in this folder, in use from now on; null: there are too many places.</summary>
    /// <param name="name">Ending in NUL.</param>
    internal Place? Child(ReadOnlySpan<byte> name)
    {
        _children ??= new Dictionary<byte[], Place>(NameComparer.Instance);
        var byName = _children.GetAlternateLookup<ReadOnlySpan<byte>>();
        if (byName.TryGetValue(name, out Place? child))
        {
            child._uses++;
            return child;
        }
        if (_tree.Count >= _tree.Most) return null;
        _tree.Count++;
        byte[] own = name.ToArray();
        child = new Place(_tree, this, own) { _uses = 1 };
        _children[own] = child;
        _uses++;                                                   // its child's
        return child;
    }

    internal Place? Known(ReadOnlySpan<byte> name) => _children != null
        && _children.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(name, out Place? child) ? child : null;

    internal void Detach()
    {
        if (_folder is not { } above) return;
        above._children!.Remove(_name);
        _folder = null;
        above.Release();
    }

    internal void Attach(Place folder, ReadOnlySpan<byte> name)
    {
        (_folder, _name) = (folder, name.ToArray());
        (folder._children ??= new Dictionary<byte[], Place>(NameComparer.Instance))[_name] = this;
        folder._uses++;
    }
}
