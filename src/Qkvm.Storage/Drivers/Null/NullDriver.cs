using Qkvm.Core.Block;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Drivers.Null;

/// <summary>Protocols <c>null-co</c> and <c>null-aio</c>: a disk of which nothing is kept, to measure what stands above
/// it.</summary>
public sealed class NullDriver : BlockNode
{
    public static readonly BlockDriverModel Model = Named("null-co");
    public static readonly BlockDriverModel Aio = Named("null-aio");

    readonly string _name;
    readonly int _latency;
    readonly bool _zeroes;

    /// <param name="latency">Nanoseconds that each request takes at least.</param>
    /// <param name="zeroes">Reads give zeros; else buffers stay as they are.</param>
    public NullDriver(string name, NodeOptions options, long length, int latency, bool zeroes) : base(options) =>
        (_name, Length, _latency, _zeroes) = (name, length, latency, zeroes);

    public override string FormatName => _name;
    public override string FileName => $"{_name}://";
    public override long Length { get; }

    public override ValueTask FlushAsync() => Wait();
    public override ValueTask DisposeAsync() => default;

    protected override ValueTask ReadCore(long offset, ScatterList buffers)
    {
        if (_zeroes) buffers.Clear();
        return Wait();
    }

    protected override ValueTask WriteCore(long offset, ScatterList buffers) => Wait();
    protected override ValueTask DiscardCore(long offset, long length) => Wait();
    protected override ValueTask WriteZeroesCore(long offset, long length, bool mayUnmap) => Wait();

    protected override ValueTask<BlockStatus> StatusCore(long offset, long length) =>
        new(_zeroes ? BlockStatus.Zero(length) : BlockStatus.Data(length));

    ValueTask Wait() =>
        _latency == 0 ? default : new ValueTask(Task.Delay(TimeSpan.FromMicroseconds(_latency / 1000.0)));

    static BlockDriverModel Named(string name) => new(name,
        [Property.Size("size", 1 << 30, "bytes"), Property.Number("latency-ns", 0, max: int.MaxValue),
            Property.Bool("read-zeroes", false, "reads give zeros")],
        (properties, parts) => new NullDriver(name, parts.Node, (long)properties.Size("size"),
            (int)properties.Number("latency-ns"), properties.Bool("read-zeroes")))
    {
        Description = "a disk of which nothing is kept", IsProtocol = true,
    };
}
