using Qkvm.Core.Devices;

namespace Qkvm.Core.Block;

/// <summary>Who uses a node: another node, a disk, an export, a job.</summary>
public interface IBlockUser
{
    /// <summary>As messages call it: "drive 'hd0'", "node 'top'".</summary>
    string UserName { get; }

    /// <summary>Holds back what is new and completes when nothing is in flight, with what ends the pause. From any
    /// thread.</summary>
    ValueTask<Action> PauseAsync();
}

/// <summary>One user's use of one node. All edges of a node agree: what one needs, none of the others
/// forbids.</summary>
/// <remarks>From any thread: changes of the graph exclude each other. A node lives while it has users or a name of the
/// user's.</remarks>
public sealed class BlockEdge
{
    /// <summary>The role of what an image lies over.</summary>
    public const string Backing = "backing";

    static readonly Lock s_graph = new();

    volatile BlockDriver _node;

    /// <param name="role">"root", "file", "backing".</param>
    /// <exception cref="ConfigurationException">Another user is in the way, in this program or another.</exception>
    public BlockEdge(BlockDriver node, IBlockUser user, string role, BlockUse use)
    {
        (_node, User, Role, Use) = (node, user, role, use);
        lock (s_graph) node.Join(this, use);
    }

    public BlockDriver Node => _node;
    public IBlockUser User { get; }
    public string Role { get; }
    public BlockUse Use { get; private set; }

    /// <summary>Needs or forbids something else from now on; as before if others are in the way.</summary>
    public void Change(BlockUse use)
    {
        lock (s_graph)
        {
            _wanted = use;
            if (!_isRelaxed) Apply(use);
        }
    }

    BlockUse _wanted;
    bool _isRelaxed;

    /// <summary>While a job changes the node in a way that the user does not notice, it forbids nothing.</summary>
    public void Relax()
    {
        lock (s_graph)
        {
            if (!_isRelaxed) _wanted = Use;
            _isRelaxed = true;
            Apply(default);
        }
    }

    /// <summary>Ends what <see cref="Relax"/> began.</summary>
    public void Restore()
    {
        lock (s_graph)
        {
            if (!_isRelaxed) return;
            _isRelaxed = false;
            Apply(_wanted);
        }
    }

    void Apply(BlockUse use)
    {
        _node.Rejoin(this, use);
        Use = use;
    }

    /// <summary>Leads to another node when nothing is in flight through it. The node before stays open.</summary>
    public async ValueTask ReplaceAsync(BlockDriver node)
    {
        Action resume = await User.PauseAsync().ConfigureAwait(false);
        try
        {
            lock (s_graph)
            {
                node.Join(this, Use);
                BlockDriver before = _node;
                _node = node;
                before.Leave(this);
            }
        }
        finally { resume(); }
    }

    /// <summary>Ends the use alone.</summary>
    public void Detach()
    {
        lock (s_graph) _node.Leave(this);
    }

    /// <summary>Ends the use, and closes a node that nobody else uses or names.</summary>
    public ValueTask ReleaseAsync()
    {
        bool isLast;
        lock (s_graph)
        {
            _node.Leave(this);
            isLast = _node.Edges.Count == 0 && !_node.IsNamed;
        }
        return isLast ? _node.DisposeAsync() : default;
    }
}
