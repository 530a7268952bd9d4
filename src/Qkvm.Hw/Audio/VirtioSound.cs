using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Virtio;

namespace Qkvm.Hw.Audio;

/// <summary>virtio-sound: a jack, a stream and a channel map for each direction. Virtio 1.2, section 5.14; names are
/// its.</summary>
/// <remarks>Deviations: jacks cannot be remapped; volumes are the driver's own; no events are sent.</remarks>
public sealed class VirtioSound : VirtioDevice
{
    public static readonly DeviceModel[] Models = VirtioPciModels.Family("virtio-sound-pci", "virtio sound",
        DeviceCategory.Sound, 0x040100, [Property.Audiodev()], static _ => 2,
        static (name, values, site) => new VirtioSound(name, values.Text("audiodev"), site), isModern: true);

    const int Streams = 2, Counts = 12;                            // jacks, streams, chmaps
    const int ControlQueue = 0, TransmitQueue = 2, ReceiveQueue = 3, QueueSize = 64;
    static readonly int[] s_sizes = [QueueSize, QueueSize, QueueSize, QueueSize];

    // Requests and answers, section 5.14.6
    const uint JackInfo = 1, PcmInfo = 0x100, SetParameters = 0x101, Prepare = 0x102, Release = 0x103,
        StartStream = 0x104, StopStream = 0x105, ChannelMapInfo = 0x200;
    internal const uint Ok = 0x8000, BadMessage = 0x8001, NotSupported = 0x8002, IoError = 0x8003;
    const int MostRequest = 64, MostAnswer = 4 + Streams * PcmInfoSize, JackInfoSize = 24, PcmInfoSize = 32,
        ChannelMapSize = 24;
    const byte FrontLeft = 3, FrontRight = 4;                      // positions, section 5.14.6.9

    // What HDA says of such jacks: "Configuration Default", High Definition Audio 1.0a, section 7.3.3.31
    const uint LineOut = 0x0101_0010, LineIn = 0x0181_0020, OutCapable = 1 << 4, InCapable = 1 << 5;

    readonly VirtioSoundStream[] _streams;                         // by stream_id: playback, recording
    readonly byte[] _request = new byte[MostRequest], _answer = new byte[MostAnswer]; // not migrated: of one request

    public VirtioSound(string name, string? audiodev, DeviceSite site) : base(name, 25, Counts)
    {
        for (int i = 0; i < Counts; i += 4)
            BinaryPrimitives.WriteInt32LittleEndian(ConfigSpace.AsSpan(i), Streams);
        _streams = [.. Enumerable.Range(0, Streams).Select(id => new VirtioSoundStream(id, audiodev, site))];
    }

    public override IReadOnlyList<int> QueueSizes => s_sizes;
    public override ulong OfferedFeatures => 0;

    public override void Start(IReadOnlyList<Virtqueue> queues, ulong features)
    {
        for (int id = 0; id < Streams; id++) _streams[id].Queue = queues[TransmitQueue + id];
    }

    public override void Stop()
    {
        foreach (VirtioSoundStream stream in _streams) stream.Queue = null;
    }

    public override void Kick(Virtqueue queue)
    {
        if (queue.Index == ControlQueue) TakeRequests(queue);
        else if (queue.Index is TransmitQueue or ReceiveQueue) _streams[queue.Index - TransmitQueue].Refilled();
    }

    public override void Reset()
    {
        foreach (VirtioSoundStream stream in _streams) stream.Reset();
    }

    public override void Exchange(StateStream state)
    {
        for (int id = 0; id < Streams; id++) _streams[id].Exchange(state.Group("stream", id));
    }

    void TakeRequests(Virtqueue queue)
    {
        int budget = Virtqueue.Burst;
        do
            for (; budget > 0 && queue.TryPop(out DescriptorChain? chain); budget--)
            {
                int length = (int)Math.Min(MostRequest, chain.ReadableLength);
                _request.AsSpan().Clear();
                chain.Readable.Slice(0, length).CopyTo(_request);
                int count = (int)Math.Min((uint)Obey(_request.AsSpan(0, length)), chain.WritableLength);
                chain.Writable.Slice(0, count).CopyFrom(_answer.AsSpan(0, count));
                queue.Push(chain, (uint)count);
            }
        while (queue.EnableKicks() && budget > 0);
        if (budget < Virtqueue.Burst) queue.Signal();
    }

    /// <returns>Bytes of the answer.</returns>
    int Obey(ReadOnlySpan<byte> request)
    {
        uint code = Word(0);
        switch (code)
        {
            case JackInfo: return Inform(request, JackInfoSize, PutJack);
            case PcmInfo: return Inform(request, PcmInfoSize, (id, info) => _streams[id].Describe(info));
            case ChannelMapInfo: return Inform(request, ChannelMapSize, PutChannelMap);
            case SetParameters or Prepare or Release or StartStream or StopStream:
                if (request.Length < 8 || Word(1) >= Streams) return Answer(BadMessage);
                VirtioSoundStream stream = _streams[Word(1)];
                return Answer(code switch
                {
                    SetParameters when request.Length < VirtioSoundStream.ParametersSize => BadMessage,
                    SetParameters => stream.Set(_request),
                    Prepare => stream.Prepare(),
                    Release => stream.Release(),
                    StartStream => stream.Start(),
                    _ => stream.Stop(),
                });
            default: return Answer(request.Length < 4 ? BadMessage : NotSupported);
        }
    }

    uint Word(int index) => BinaryPrimitives.ReadUInt32LittleEndian(_request.AsSpan(4 * index));

    int Answer(uint status)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_answer, status);
        return 4;
    }

    delegate void PutInfo(int id, Span<byte> info);

    /// <summary>A range of items (section 5.14.6.1).</summary>
    int Inform(ReadOnlySpan<byte> request, int size, PutInfo put)
    {
        uint start = Word(1), count = Word(2), each = Word(3);
        if (request.Length < 16 || start >= Streams || count > Streams - start || each != size)
            return Answer(BadMessage);
        int length = Answer(Ok);
        for (uint i = 0; i < count; i++, length += size)
        {
            Span<byte> info = _answer.AsSpan(length, size);
            info.Clear();
            put((int)(start + i), info);
        }
        return length;
    }

    static void PutJack(int id, Span<byte> info)
    {
        BinaryPrimitives.WriteInt32LittleEndian(info, id);         // hda_fn_nid
        BinaryPrimitives.WriteUInt32LittleEndian(info[8..], id == 0 ? LineOut : LineIn);
        BinaryPrimitives.WriteUInt32LittleEndian(info[12..], id == 0 ? OutCapable : InCapable);
        info[16] = 1;                                              // connected
    }

    static void PutChannelMap(int id, Span<byte> info)
    {
        BinaryPrimitives.WriteInt32LittleEndian(info, id);
        (info[4], info[5], info[6], info[7]) = ((byte)id, 2, FrontLeft, FrontRight);
    }
}
