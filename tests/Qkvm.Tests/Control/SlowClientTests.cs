using System.Text;
using Qkvm.Control;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;
using Qkvm.Tests.Control.Fuzz;

namespace Qkvm.Tests.Control;

/// <summary>Somebody at the human monitor who types and does not read.</summary>
public sealed class SlowClientTests : IDisposable
{
    readonly ControlBench _bench = new();
    readonly FuzzClient _client = new(new Random(1));

    public SlowClientTests() => _bench.OnLoop(() =>
    {
        _ = new HmpMonitor(_client, new CommandContext(_bench.Machine, _bench.Host, CommandCatalogue.Standard), "0",
            muxed: false);
        _client.Open();
    });

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Costs_one_answer_and_holds_up_nobody()
    {
        byte[] line = "xp /200000xb 0\r"u8.ToArray();
        long before = _bench.OnLoop(() => GC.GetTotalMemory(true));
        int taken = _bench.OnLoop(() =>
        {
            _client.TakeHeard();
            _client.Stalls = true;
            return Enumerable.Range(0, 1000).Sum(_ => _client.Send(line));
        });
        Assert.InRange(taken, 1, 1000);
        Assert.Equal(0, _bench.OnLoop(() => _client.Frontend!.Room));
        Assert.InRange(_bench.OnLoop(() => GC.GetTotalMemory(true)) - before, long.MinValue, 8 << 20);
        _bench.OnLoop(() => _bench.Machine.Resume());
        Assert.Equal(RunState.Running, _bench.OnLoop(() => _bench.Machine.State));

        string heard = _bench.OnLoop(() =>
        {
            _client.Read();
            _client.TakeHeard();
            _client.Send(Encoding.ASCII.GetBytes("\u0005\u0015print 40+2\r"));
            return _client.TakeHeard();
        });
        Assert.Contains("42\r\n", heard);
    }
}
