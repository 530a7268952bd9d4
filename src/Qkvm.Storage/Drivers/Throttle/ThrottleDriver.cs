using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Host;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Throttle;

/// <summary>Filter <c>throttle</c>: what passes it keeps to the limits of a throttle group. Flushes always
/// pass.</summary>
public sealed class ThrottleDriver : FilterNode
{
    const string Group = "throttle-group";

    public static readonly BlockDriverModel Model = new("throttle",
        [Property.Node("file", "what is slowed down"),
            Property.Text(Group, help: "the group whose limits it keeps to")],
        static (properties, parts) =>
        {
            string group = properties.Text(Group) ?? throw properties.Error($"Parameter '{Group}' is missing");
            return new ThrottleDriver(parts.File, parts.Node, parts.JoinThrottle(group) ?? throw properties.Error(
                NotFound(group)), parts.JoinThrottle);
        })
    {
        Description = "a disk that keeps to the limits of a throttle-group", Reopenable = [Group],
    };

    readonly Func<string, ThrottleMember?> _join;
    volatile ThrottleMember _member;

    ThrottleDriver(BlockDriver file, NodeOptions options, ThrottleMember member, Func<string, ThrottleMember?> join)
        : base(file, options) => (_member, _join) = (member, join);

    static string NotFound(string group) => $"Throttle group '{group}' does not exist";

    public override string FormatName => Model.Name;

    internal override bool ChangesUnderJobs => true;

    /// <inheritdoc/>
    internal override Action Change(Options options, in Surroundings around)
    {
        ThrottleGroup before = _member.Group;
        string group = options.Required(Group);
        if (group == before.Name) return static () => { };
        Become(_join(group) ?? throw new ConfigurationException(NotFound(group)));
        return () => Become(before.Join());                        // also one that nobody else keeps by its name
    }

    void Become(ThrottleMember member)
    {
        ThrottleMember before = _member;
        _member = member;
        before.Leave();
    }

    public override Action? LetGo()
    {
        ThrottleMember member = _member;
        member.LetGo();
        return base.LetGo() + member.HoldAgain;
    }

    public override ValueTask DisposeAsync()
    {
        _member.Leave();
        return base.DisposeAsync();
    }

    protected override bool TryStartCore(BlockOperation operation, long offset, ScatterList buffers, IoRing? ring,
        out ValueTask result)
    {
        result = default;
        bool isFlush = operation == BlockOperation.Flush, isWrite = operation == BlockOperation.Write;
        ThrottleMember member = _member;
        if (!isFlush && !member.MayPass(isWrite)) return false;
        if (!base.TryStartCore(operation, offset, buffers, ring, out result)) return false;
        if (!isFlush) member.Count(isWrite, buffers.Length);
        return true;
    }

    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        ValueTask wait = _member.WaitAsync(isWrite: false, buffers.Length);
        return wait.IsCompleted ? File.ReadAsync(offset, buffers) : ReadLaterAsync(wait, offset, buffers);
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => Write(offset, buffers, WriteFlags.None);

    protected override ValueTask WriteFuaCore(long offset, ScatterList buffers) =>
        Write(offset, buffers, WriteFlags.Fua);

    ValueTask Write(long offset, ScatterList buffers, WriteFlags flags)
    {
        ValueTask wait = _member.WaitAsync(isWrite: true, buffers.Length);
        return wait.IsCompleted ? File.WriteAsync(offset, buffers, flags)
            : WriteLaterAsync(wait, offset, buffers, flags);
    }

    // Methods of their own, so that what need not wait makes nothing.

    async ValueTask ReadLaterAsync(ValueTask wait, long offset, ScatterList buffers)
    {
        await wait.ConfigureAwait(false);
        await File.ReadAsync(offset, buffers).ConfigureAwait(false);
    }

    async ValueTask WriteLaterAsync(ValueTask wait, long offset, ScatterList buffers, WriteFlags flags)
    {
        await wait.ConfigureAwait(false);
        await File.WriteAsync(offset, buffers, flags).ConfigureAwait(false);
    }

    protected override async ValueTask DiscardCore(long offset, long length)
    {
        await _member.WaitAsync(isWrite: true, length).ConfigureAwait(false);
        await File.DiscardAsync(offset, length).ConfigureAwait(false);
    }

    protected override async ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap)
    {
        await _member.WaitAsync(isWrite: true, length).ConfigureAwait(false);
        await File.WriteZeroesAsync(offset, length, mayUnmap).ConfigureAwait(false);
    }
}
