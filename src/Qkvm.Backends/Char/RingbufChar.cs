using System.Numerics;
using Qkvm.Core.Machine;
using Qkvm.Core.Char;

namespace Qkvm.Backends.Char;

/// <summary>ringbuf: keeps the last bytes that the guest wrote, for a monitor to read.</summary>
public sealed class RingbufChar : ICharBackend, IKeptOutput
{
    public static readonly CharModel Model = new("ringbuf",
        [Property.Size("size", DefaultSize, "bytes that are kept, a power of two")], Create)
    {
        Description = "keeps what was written last, for the monitor's ringbuf_read", Aliases = ["memory"],
    };

    const int DefaultSize = 64 << 10, LargestSize = 1 << 30;

    readonly byte[] _bytes;

    /// <summary>Bytes ever written, and of them those that were read or overwritten.</summary>
    long _produced, _consumed;

    public RingbufChar(string id, int size) => (Id, _bytes) = (id, new byte[size]);

    static RingbufChar Create(Properties properties, IBackendHost host)
    {
        ulong size = properties.Size("size");
        if (!BitOperations.IsPow2(size) || size > LargestSize)
            throw properties.Error($"size={size}: size of ringbuf chardev must be power of two, at most 1G");
        return new RingbufChar(properties.Required("id"), (int)size);
    }

    public string Id { get; }
    public string Description => Model.Name;
    public bool IsOpen => true;

    public int Write(ReadOnlySpan<byte> data)
    {
        foreach (byte one in data) _bytes[_produced++ & (_bytes.Length - 1)] = one;
        _consumed = Math.Max(_consumed, _produced - _bytes.Length);
        return data.Length;
    }

    /// <inheritdoc/>
    public byte[] Read(int most)
    {
        var data = new byte[Math.Min(most, _produced - _consumed)];
        for (int i = 0; i < data.Length; i++) data[i] = _bytes[_consumed++ & (_bytes.Length - 1)];
        return data;
    }

    public void Connect(ICharFrontend? frontend) => frontend?.Event(CharEvent.Opened);

    public void AcceptInput() { }
}
