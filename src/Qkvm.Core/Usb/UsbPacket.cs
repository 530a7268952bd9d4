using Qkvm.Core.Block;
using Qkvm.Core.Memory;

namespace Qkvm.Core.Usb;

public enum UsbSpeed : byte { Low, Full, High, Super }

[Flags]
public enum UsbSpeeds : byte { None = 0, Low = 1, Full = 2, High = 4, Super = 8 }

/// <summary>Token PIDs. USB 2.0, table 8-1.</summary>
public enum UsbToken : byte { Setup = 0x2D, In = 0x69, Out = 0xE1 }

/// <summary>How a packet ended, or that it has not.</summary>
public enum UsbStatus : byte
{
    /// <summary>Done; <see cref="UsbPacket.Actual"/> bytes were moved, perhaps fewer than there was room for.</summary>
    Success,
    /// <summary>The device has the packet, and <see cref="UsbPacket.Complete"/> tells its end.</summary>
    Pending,
    /// <summary>Not now: the host asks again. The device calls <see cref="UsbDevice.Wake"/> when that is of
    /// use.</summary>
    Nak,
    Stall,
    /// <summary>The device had more to send than there was room for.</summary>
    Babble,
    IoError,
    /// <summary>Nobody answered, or the device left or was reset meanwhile.</summary>
    NoDevice,
}

/// <summary>What a host controller and a device exchange at once: one transfer descriptor's bytes, over as many bus
/// transactions as they take. The controller uses it again and again; devices keep none that has ended. Under the
/// machine lock.</summary>
/// <param name="completed">Of a packet that was <see cref="UsbStatus.Pending"/>.</param>
public sealed class UsbPacket(Action<UsbPacket> completed)
{
    readonly List<Memory<byte>> _pieces = [];
    readonly List<(ulong Address, uint Length)> _ranges = [];
    Dma? _dma;

    public UsbToken Token { get; private set; }

    /// <summary>Number 0 to 15.</summary>
    public byte Endpoint { get; private set; }

    /// <summary>Of super speed's bulk streams; 0 for none.</summary>
    public ushort Stream { get; private set; }

    /// <summary>With the direction in bit 7.</summary>
    public byte EndpointAddress => (byte)(Endpoint | (Token == UsbToken.In ? UsbEndpoint.In : 0));

    /// <summary>Bytes to send, or room for what is received.</summary>
    public int Length { get; private set; }

    /// <summary>Bytes that were moved.</summary>
    public int Actual { get; private set; }

    public int Room => Length - Actual;
    public UsbStatus Status { get; private set; }

    /// <summary>Whose it is while <see cref="UsbStatus.Pending"/>.</summary>
    public UsbDevice? Device { get; internal set; }

    public bool IsPending => Device != null;

    /// <summary>The host's number for it, which the device does not see.</summary>
    public ulong Tag { get; set; }

    /// <summary>All bytes: for devices that move them without copying and then call <see cref="Advance"/>.</summary>
    public ScatterList Data => new(_pieces, 0, 0, Length);

    /// <summary>What has not been moved.</summary>
    public ScatterList Rest => Data.Slice(Actual, Room);

    // The host's side

    public void Begin(UsbToken token, byte endpoint, ushort stream = 0)
    {
        if (IsPending) throw new InvalidOperationException("a packet in flight");
        _pieces.Clear();
        _ranges.Clear();
        (Token, Endpoint, Stream, Length, Actual, Status) = (token, endpoint, stream, 0, 0, UsbStatus.Success);
    }

    /// <summary>Appends guest memory; false, and nothing appended, where it is not RAM.</summary>
    public bool TryAdd(Dma dma, ulong address, uint length)
    {
        if (!dma.TryMap(address, length, Token == UsbToken.In, _pieces)) return false;
        _dma = dma;
        _ranges.Add((address, length));
        Length += (int)length;
        return true;
    }

    /// <summary>Appends the host's own memory.</summary>
    public void Add(Memory<byte> memory)
    {
        _pieces.Add(memory);
        Length += memory.Length;
    }

    /// <summary>Nobody took it.</summary>
    public void Fail(UsbStatus status) => End(status);

    /// <summary>Takes a pending packet back: afterwards the device no longer touches its memory, and nobody hears of
    /// it.</summary>
    public void Cancel()
    {
        Device?.Forget(this);
        Status = UsbStatus.NoDevice;
        MarkWritten();
    }

    // The device's side

    /// <summary>Device to host: what fits.</summary>
    /// <returns>How many bytes did.</returns>
    public int Put(ReadOnlySpan<byte> bytes)
    {
        int count = Math.Min(bytes.Length, Room);
        if (count == 0) return 0;
        Data.Slice(Actual, count).CopyFrom(bytes[..count]);
        Actual += count;
        return count;
    }

    /// <summary>Host to device: what there is, as far as the target holds it.</summary>
    public int Take(Span<byte> target)
    {
        int count = Math.Min(target.Length, Room);
        if (count == 0) return 0;
        Data.Slice(Actual, count).CopyTo(target);
        Actual += count;
        return count;
    }

    /// <summary>Bytes were moved through <see cref="Data"/>, or are not wanted.</summary>
    public void Advance(int count) => Actual += Math.Clamp(count, 0, Room);

    /// <summary>The end of a packet that was pending: the host hears of it at once.</summary>
    public void Complete(UsbStatus status)
    {
        Device?.Release(this);
        End(status);
        completed(this);
    }

    internal UsbStatus End(UsbStatus status)
    {
        Status = status;
        if (status != UsbStatus.Pending) MarkWritten();
        return status;
    }

    void MarkWritten()
    {
        if (Token != UsbToken.In) return;
        long left = Actual;
        foreach (var (address, length) in _ranges)
        {
            if (left <= 0) break;
            _dma!.MarkWritten(address, (ulong)Math.Min(left, length));
            left -= length;
        }
    }
}
