using System.Buffers.Binary;
using System.Text;
using Qkvm.Backends.Files;
using Qkvm.Core.Block;
using Qkvm.Core.Configuration;
using Qkvm.Core.Files;
using Qkvm.Hw.NineP;

namespace Qkvm.Tests.NineP;

/// <summary>An answer: its type, and what is behind its header.</summary>
sealed record NinePAnswer(byte Type, byte[] Body)
{
    /// <summary>Of an Rlerror, or 0.</summary>
    public int Errno => Type == 7 ? BinaryPrimitives.ReadInt32LittleEndian(Body) : 0;
}

/// <summary>A client of 9P that says whatever a test wants; numbers of messages restated here.</summary>
sealed class NinePClient : IDisposable
{
    public const uint NoFid = uint.MaxValue;

    readonly byte[] _room = new byte[1 << 20];
    readonly NinePRequest _request = new();
    readonly SharedFolder _folder;

    /// <param name="goesByName">As on a host without openat2(2).</param>
    public NinePClient(string path, string model = "none", string more = "", bool goesByName = false)
    {
        _folder = LocalFolder.Model.Create(new Properties(LocalFolder.Model,
            Options.Parse($"id=f,path={path.Replace(",", ",,")},security_model={model}{more}", "-fsdev")), null!);
        if (goesByName) ((LocalFolder)_folder).GoByName();
        Server = new NinePServer(_folder);
    }

    public NinePServer Server { get; }
    public SharedFolder Folder => _folder;

    public void Dispose()
    {
        Server.Reset();
        ((IDisposable)_folder).Dispose();
    }

    /// <summary>9P2000.L, and fid 0 at the root.</summary>
    public NinePClient Begin(string version = "9P2000.L", uint size = 1 << 16)
    {
        Assert.Equal(101, Send(100, size, version).Type);
        NinePAnswer answer = version == "9P2000" ? Send(104, 0u, NoFid, "me", "")
            : Send(104, 0u, NoFid, "me", "", 1000u);
        Assert.Equal(105, answer.Type);
        return this;
    }

    public static byte[] Message(byte type, params object[] fields)
    {
        var body = new MemoryStream();
        body.Write([0, 0, 0, 0, type, 1, 0]);
        foreach (object field in fields) body.Write(Bytes(field));
        byte[] message = body.ToArray();
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        return message;
    }

    static byte[] Bytes(object field) => field switch
    {
        byte b => [b],
        ushort w => BitConverter.GetBytes(w),
        uint d => BitConverter.GetBytes(d),
        ulong q => BitConverter.GetBytes(q),
        string text => [.. BitConverter.GetBytes((ushort)Encoding.Latin1.GetByteCount(text)),
            .. Encoding.Latin1.GetBytes(text)],
        byte[] raw => raw,
        _ => throw new ArgumentException($"{field}"),
    };

    public NinePAnswer Send(byte type, params object[] fields) => SendRaw(Message(type, fields))!;

    /// <summary>Null: there is no answer.</summary>
    public NinePAnswer? SendRaw(byte[] message, int room = 1 << 20)
    {
        if (!_request.Take(new ScatterList(message), new ScatterList(_room.AsMemory(0, room)))) return null;
        Server.Begin(_request);
        if (_request.IsSlow) Server.Finish(_request);
        if (_request.IsLost) return null;
        _request.Reply.CopyTo(_room);
        long total = _request.Reply.Length + _request.Data;
        Assert.Equal(total, BinaryPrimitives.ReadUInt32LittleEndian(_room));
        return new NinePAnswer(_room[4], _room[7..(int)total]);
    }

    /// <summary>Walks from the root.</summary>
    public NinePAnswer Walk(uint fid, params string[] names) =>
        Send(110, [0u, fid, (ushort)names.Length, .. names]);

    /// <summary>Forgets the fid first.</summary>
    public uint At(uint fid, params string[] names)
    {
        Send(120, fid);
        NinePAnswer answer = Walk(fid, names);
        Assert.Equal((111, names.Length), (answer.Type, answer.Body[0]));
        return fid;
    }

    public NinePAnswer Open(uint fid, uint flags) => Send(12, fid, flags);

    public NinePAnswer Create(uint fid, string name, uint flags = 2, uint mode = 0x1A4) =>
        Send(14, fid, name, flags, mode, 1001u);

    public NinePAnswer Write(uint fid, ulong offset, byte[] data) => Send(118, fid, offset, (uint)data.Length, data);

    public byte[] Read(uint fid, ulong offset = 0, uint count = 4096)
    {
        NinePAnswer answer = Send(116, fid, offset, count);
        Assert.Equal(117, answer.Type);
        return answer.Body[4..];
    }

    /// <summary>Mode, owner, group, size and device.</summary>
    public (uint Mode, uint Owner, uint Group, ulong Size, ulong Device) Stat(uint fid)
    {
        NinePAnswer answer = Send(24, fid, 0x7FFUL);
        Assert.Equal(25, answer.Type);
        ReadOnlySpan<byte> body = answer.Body.AsSpan(8 + 13);
        return (BitConverter.ToUInt32(body), BitConverter.ToUInt32(body[4..]), BitConverter.ToUInt32(body[8..]),
            BitConverter.ToUInt64(body[28..]), BitConverter.ToUInt64(body[20..]));
    }

    /// <summary>Names of an open folder, read so many bytes at a time.</summary>
    public List<string> List(uint fid, uint count)
    {
        var names = new List<string>();
        ulong offset = 0;
        while (true)
        {
            NinePAnswer answer = Send(40, fid, offset, count);
            Assert.Equal(41, answer.Type);
            ReadOnlySpan<byte> left = answer.Body.AsSpan(4);
            if (left.Length == 0) return names;
            while (left.Length > 0)
            {
                offset = BitConverter.ToUInt64(left[13..]);
                int length = BitConverter.ToUInt16(left[22..]);
                names.Add(Encoding.Latin1.GetString(left.Slice(24, length)));
                left = left[(24 + length)..];
            }
        }
    }
}
