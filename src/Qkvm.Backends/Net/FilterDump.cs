using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;
using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;

namespace Qkvm.Backends.Net;

/// <summary>-object filter-dump: what passes a netdev, as a pcap file. pcap-savefile(5).</summary>
/// <remarks>Frames that a card leaves unfinished are written as they would be on a wire, in segments and with their
/// checksums. Each is written at once, so that a file of a machine that ended badly is whole.</remarks>
public sealed class FilterDump : INetFilter, IDisposable
{
    const uint Magic = 0xA1B2C3D4, Ethernet = 1;
    const int FileHeader = 24, RecordHeader = 16, LargestFrame = 4096 + 65536;

    public static readonly ObjectModel Model = new("filter-dump",
        [
            Property.Netdev(),
            Property.Text("file", help: "the pcap file, which is written anew"),
            Property.Number("maxlen", 65536, 1, int.MaxValue, "bytes kept of each frame"),
            Property.Enum("queue", "all", ["all", "rx", "tx"], "rx: what the guest receives, tx: what it sends"),
            Property.Enum("status", "on", ["on", "off"]),
            Property.Enum("position", "tail", ["head", "tail"]),
            Property.Enum("insert", "behind", ["before", "behind"]),
        ],
        static (given, host) =>
        {
            string netdev = given.Text("netdev") ?? throw given.Error("Parameter 'netdev' is missing");
            string file = given.Text("file") ?? throw given.Error("dump filter needs 'file' property set!");
            if (!host.Backends.Netdevs.TryGetValue(netdev, out NetBackend? backend))
                throw given.Error($"netdev={netdev}: there is no such network backend; give -netdev …,id={netdev}");
            if (backend.Vhost != null)
                throw given.Error($"netdev={netdev}: Vhost is not supported; its frames do not pass here");
            return new FilterDump(given, backend.Link, file);
        }) { Description = "what passes a netdev, as a pcap file", NeedsNetdev = true };

    readonly NetLink _link;
    readonly SafeFileHandle _file;
    readonly Lock _writing = new();
    readonly byte[] _frame = new byte[LargestFrame], _record = new byte[RecordHeader + LargestFrame];
    readonly string _id, _path, _queue;
    readonly int _maxLength;
    readonly bool _isOn;
    long _offset;
    bool _isClosed;

    FilterDump(Properties given, NetLink link, string path)
    {
        (_link, _path, _id, _queue) = (link, path, given.Required("id"), given.Required("queue"));
        (_maxLength, _isOn) = ((int)given.Number("maxlen"), given.Text("status") == "on");
        try { _file = File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.Read); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw given.Error($"net dump: can't open {path}: {e.Message}", e);
        }
        Span<byte> header = stackalloc byte[FileHeader];
        header.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(header, Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(header[4..], 2);  // version 2.4
        BinaryPrimitives.WriteUInt16LittleEndian(header[6..], 4);
        BinaryPrimitives.WriteInt32LittleEndian(header[16..], _maxLength);
        BinaryPrimitives.WriteUInt32LittleEndian(header[20..], Ethernet);
        Write(header);
        link.Add(this);
    }

    public string Description => $"{_id}: type={Model.Name},file={_path},maxlen={_maxLength},queue={_queue},"
        + $"status={(_isOn ? "on" : "off")}";

    /// <summary>What could not be written ended the file: why, or null.</summary>
    public string? Failure { get; private set; }

    public void See(bool fromGuest, in NetHeader header, in ScatterList frame)
    {
        if (!Wants(fromGuest) || frame.Length > LargestFrame) return;
        lock (_writing)
        {
            frame.CopyTo(_frame);
            Dump(header, _frame.AsSpan(0, (int)frame.Length));
        }
    }

    public void See(bool fromGuest, in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (!Wants(fromGuest) || frame.Length > LargestFrame) return;
        lock (_writing) Dump(header, frame);
    }

    public void Dispose()
    {
        _link.Remove(this);
        lock (_writing)
        {
            _isClosed = true;
            _file.Dispose();
        }
    }

    bool Wants(bool fromGuest) => _isOn && _queue != (fromGuest ? "rx" : "tx");

    void Dump(in NetHeader header, ReadOnlySpan<byte> frame)
    {
        if (_isClosed || Failure != null) return;
        long microseconds = (DateTime.UtcNow - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        var cutter = new SegmentCutter(header, frame);
        if (cutter.Longest > LargestFrame) return;
        while (cutter.TryNext(_record.AsSpan(RecordHeader), out int length))
        {
            int kept = Math.Min(length, _maxLength);
            BinaryPrimitives.WriteUInt32LittleEndian(_record, (uint)(microseconds / 1_000_000));
            BinaryPrimitives.WriteUInt32LittleEndian(_record.AsSpan(4), (uint)(microseconds % 1_000_000));
            BinaryPrimitives.WriteInt32LittleEndian(_record.AsSpan(8), kept);
            BinaryPrimitives.WriteInt32LittleEndian(_record.AsSpan(12), length);
            Write(_record.AsSpan(0, RecordHeader + kept));
        }
    }

    /// <summary>A full disk ends the file at a whole record, and nothing else.</summary>
    void Write(ReadOnlySpan<byte> data)
    {
        if (Failure != null) return;
        try
        {
            RandomAccess.Write(_file, data, _offset);
            _offset += data.Length;
        }
        catch (IOException e)
        {
            Failure = e.Message;
            Console.Error.WriteLine($"-object {Model.Name},id={_id}: cannot write {_path}: {e.Message}; "
                + "no more is kept");
        }
    }
}
