using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Raw;

namespace Qkvm.Storage.Nbd;

/// <summary>A node as clients of a server see it.</summary>
/// <remarks>From any thread. Its length stays what it was when it was made.</remarks>
public sealed class NbdExport : IBlockUser
{
    readonly BlockEdge _edge;
    readonly object _gate = new();
    readonly HashSet<NbdSession> _sessions = [];                   // within the gate, as is all below
    readonly List<TaskCompletionSource> _waiting = [];
    int _inside, _pauses;
    bool _isClosed;

    /// <exception cref="ConfigurationException">Another user of the node is in the way.</exception>
    public NbdExport(string name, BlockDriver node, bool isWritable)
    {
        (Name, IsReadOnly, Length) = (name, !isWritable, node.Length);
        BlockRights needs = isWritable ? BlockRights.ConsistentRead | BlockRights.Write : BlockRights.ConsistentRead;
        _edge = new BlockEdge(node, this, "root", new BlockUse(needs, BlockRights.Resize));
    }

    public string Name { get; }
    public string Description { get; init; } = "";
    public bool IsReadOnly { get; }
    public long Length { get; }

    /// <summary>What is written is on stable storage when it is answered.</summary>
    public bool IsWritethrough { get; init; }

    /// <summary>Clients may ask which layer of the node has what.</summary>
    public bool ShowsDepth { get; init; }

    /// <summary>Clients may ask what is dirty.</summary>
    public IReadOnlyList<IBitmap> Bitmaps { get; init; } = [];

    public BlockDriver Node => _edge.Node;

    /// <summary>Clients that use it now.</summary>
    public int Clients { get { lock (_gate) return _sessions.Count; } }

    string IBlockUser.UserName => $"NBD export '{Name}'";

    /// <summary>The file whose bytes the node's are, from the same offset plus a constant on, whatever is written;
    /// null where there is no such file.</summary>
    internal static (FileDriver File, long Offset)? PlainFile(BlockDriver node) => node switch
    {
        FileDriver file => (file, 0),
        RawDriver raw => PlainFile(raw.Children[0].Node) is { } below ? (below.File, below.Offset + raw.Offset) : null,
        _ => null,
    };

    /// <summary>Becomes a client until it leaves; false: the export has been closed.</summary>
    internal bool Join(NbdSession session) { lock (_gate) return !_isClosed && _sessions.Add(session); }

    internal void Leave(NbdSession session) { lock (_gate) _sessions.Remove(session); }

    /// <summary>Begins a request, when nothing holds it back.</summary>
    internal void Enter()
    {
        lock (_gate)
        {
            while (_pauses > 0) Monitor.Wait(_gate);
            _inside++;
        }
    }

    internal void Exit()
    {
        lock (_gate)
        {
            if (--_inside > 0) return;
            foreach (TaskCompletionSource waiting in _waiting) waiting.SetResult();
            _waiting.Clear();
        }
    }

    async ValueTask<Action> IBlockUser.PauseAsync()
    {
        Task idle = Task.CompletedTask;
        Action? holdAgain = Node.LetGo();
        lock (_gate)
        {
            _pauses++;
            if (_inside > 0)
            {
                var waiting = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                _waiting.Add(waiting);
                idle = waiting.Task;
            }
        }
        await idle.ConfigureAwait(false);
        return () =>
        {
            holdAgain?.Invoke();
            lock (_gate)
                if (--_pauses == 0) Monitor.PulseAll(_gate);
        };
    }

    /// <summary>Ends the connections of its clients, and waits for what they have in flight; then the node is
    /// free.</summary>
    public async ValueTask CloseAsync()
    {
        NbdSession[] sessions;
        lock (_gate)
        {
            _isClosed = true;
            sessions = [.. _sessions];
        }
        Action? holdAgain = Node.LetGo();
        foreach (NbdSession session in sessions) session.HangUp();
        foreach (NbdSession session in sessions) await session.Ended.ConfigureAwait(false);
        holdAgain?.Invoke();
        if (!IsReadOnly)
            try { await Node.FlushAsync().ConfigureAwait(false); }
            catch (BlockException) { }                              // its clients asked for flushes, or did not care
        await _edge.ReleaseAsync().ConfigureAwait(false);
    }
}
