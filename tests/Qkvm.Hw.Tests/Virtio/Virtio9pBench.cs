using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Virtio;
using Qkvm.Host;
using Qkvm.Hw.Virtio;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Virtio;

/// <summary>A client of a shared folder that is a slow file.</summary>
public abstract class Virtio9pBench : IDisposable
{
    private protected const ulong Messages = 0x20000, Answers = 0x30000, Spacing = 0x200;

    private protected readonly PciBench _bench = new();
    private protected readonly SlowFolder _folder;
    private protected readonly Virtio9p _device;
    private protected readonly VirtioGuest _guest;
    int _sent;

    /// <summary>The device's loop, where it sleeps until it is woken.</summary>
    private protected readonly SleepyLoop? _sleeper;

    /// <param name="sleeps">The loop sleeps; else it does at once whatever comes.</param>
    /// <param name="isNear">The folder is on this machine.</param>
    private protected Virtio9pBench(bool sleeps = false, bool isNear = false)
    {
        IoLoop loop = sleeps ? _sleeper = new SleepyLoop(_bench.Pump) : new PumpLoop(_bench.Pump);
        // of reads and writes together; all else is free
        var limits = new ThrottleGroup("slow", _bench.Clock, _bench.Pump.Post)
        {
            Limits = ThrottleLimits.None with { RequestsTotal = new RateLimit(1) },
        };
        _folder = new SlowFolder(isNear) { Limits = limits };
        _device = new Virtio9p("9p", _folder, "host", loop, _bench.Pump.Post);
        _guest = new VirtioGuest(_bench, _device);
        _guest.Start(sleeps ? ~VirtioFeatures.EventIndex : ulong.MaxValue, vectors: sleeps);
    }

    public void Dispose()
    {
        GC.SuppressFinalize(this);
        _folder.Disk.Set();
        _bench.Dispose();
    }

    /// <summary>Its tag is its number.</summary>
    protected void Send(byte type, params byte[][] fields)
    {
        byte[] body = [.. fields.SelectMany(field => field)], message = [0, 0, 0, 0, type, (byte)_sent, 0, .. body];
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        ulong place = Spacing * (ulong)_sent++;
        for (int i = 0; i < message.Length; i++) _bench.Memory.Space.Write(Messages + place + (ulong)i, 1, message[i]);
        _guest.Request(0, (Messages + place, message.Length), (Answers + place, -(int)Spacing));
    }

    protected static byte[] Number(uint value) => BitConverter.GetBytes(value);
    protected static byte[] Text(string text) => [(byte)text.Length, 0, .. Encoding.ASCII.GetBytes(text)];

    /// <summary>The type and tag of the next answer, or null.</summary>
    protected (byte Type, int Tag)? Answer()
    {
        if (_guest.Queues[0].TakeUsed() is not { } used) return null;
        byte[] answer = _bench.Memory.Bytes(Answers + Spacing * (used.Id / 2), (int)used.Written);
        Assert.Equal(used.Written, BinaryPrimitives.ReadUInt32LittleEndian(answer));
        return (answer[4], answer[5]);
    }

    protected (byte Type, int Tag) Await()
    {
        (byte, int)? answer = null;
        _bench.Pump.Until(() => (answer = Answer()) != null);
        return answer!.Value;
    }

    protected void Begin()
    {
        Send(100, Number(8192), Text("9P2000.L"));
        Assert.Equal((101, 0), Await());
        Send(104, Number(0), Number(uint.MaxValue), Text(""), Text(""), Number(0));
        Assert.Equal((105, 1), Await());
        Send(12, Number(0), Number(0));
        Assert.Equal((13, 2), Await());
    }

    /// <summary>Tags from 0 on.</summary>
    protected void Restart() => _sent = 0;
}
