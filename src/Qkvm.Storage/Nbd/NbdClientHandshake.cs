using System.Buffers.Binary;
using System.Text;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Nbd;

/// <summary>The client's side until it has an export. Spec: doc/proto.md, "Fixed newstyle negotiation".</summary>
/// <remarks>Failures are <see cref="ConfigurationException"/>s with QEMU's texts.</remarks>
sealed class NbdClientHandshake : IDisposable
{
    /// <summary>Bytes of a reply, and exports of a list, that a server may send.</summary>
    const int MaxReply = 64 << 10, MaxExports = 10_000;

    static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    readonly StreamSocket _peer;
    TlsRelay? _tls;
    string? _tlsFailure;
    bool _noZeroes, _isFixed, _isStructured;

    /// <param name="peer">Connected; this object's own from now on.</param>
    public NbdClientHandshake(StreamSocket peer)
    {
        _peer = peer;
        peer.SetNoDelay(true);
        Socket = new BlockingSocket(peer) { Deadline = Environment.TickCount64 + (long)s_patience.TotalMilliseconds };
    }

    public BlockingSocket Socket { get; private set; }

    public void Dispose()
    {
        Socket.Dispose();
        _tls?.Dispose();
        _peer.Dispose();
    }

    /// <summary>Greets the server, and goes over to TLS where there are credentials.</summary>
    /// <param name="host">As of <see cref="TlsCredentials"/>.</param>
    public void Begin(TlsCredentials? credentials, string? host)
    {
        Span<byte> hello = stackalloc byte[16];
        Read(hello, "Failed to read initial magic");
        ulong magic = BinaryPrimitives.ReadUInt64BigEndian(hello),
            second = BinaryPrimitives.ReadUInt64BigEndian(hello[8..]);
        if (magic != NbdProtocol.Magic) throw Failed($"Bad initial magic received: 0x{magic:x16}");
        if (second == NbdProtocol.OldMagic)
            throw Failed("the server speaks NBD's old style, which had its end in 2016; it has to use the fixed "
                + "newstyle");
        if (second != NbdProtocol.OptionMagic) throw Failed($"Bad server magic received: 0x{second:x16}");
        Read(hello[..2], "Failed to read server flags");
        var flags = (NbdHandshakeFlags)BinaryPrimitives.ReadUInt16BigEndian(hello);
        _isFixed = (flags & NbdHandshakeFlags.FixedNewstyle) != 0;
        _noZeroes = (flags & NbdHandshakeFlags.NoZeroes) != 0;
        BinaryPrimitives.WriteUInt32BigEndian(hello,
            (uint)(flags & (NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes)));
        Write(hello[..4]);
        if (credentials == null) return;
        if (!_isFixed) throw Failed("Server does not support STARTTLS");
        Send(NbdOption.StartTls);
        if (Receive(NbdOption.StartTls).Type != NbdReply.Ack) throw Failed("Server rejected request for TLS");
        if (Socket.Buffered > 0) throw Failed("the server has sent more before TLS began");
        _tls = new TlsRelay(_peer, credentials, host, s_patience, static () => { }, why => _tlsFailure = why);
        Socket = new BlockingSocket(_tls.Plain) { Deadline = Socket.Deadline };
    }

    /// <summary>Chooses an export: transmission begins.</summary>
    /// <param name="context">What block status is to be of.</param>
    public NbdExportInfo Go(string export, string context)
    {
        uint? id = null;
        if (_isFixed && AllowStructured()) id = SetContext(export, context);
        NbdExportInfo info = (_isFixed ? Ask(NbdOption.Go, export) : null) ?? ByName(export);
        Socket.Deadline = long.MaxValue;
        return info with { IsStructured = _isStructured, Context = id };
    }

    /// <summary>All that a server has to offer, in its order.</summary>
    public IReadOnlyList<NbdExportInfo> List()
    {
        if (!_isFixed) throw Failed("Server does not support export lists");
        AllowStructured();
        var found = new List<(string Name, string Description)>();
        Send(NbdOption.List);
        while (true)
        {
            (NbdReply type, byte[] data) = Receive(NbdOption.List);
            if (type == NbdReply.Ack) break;
            if (type == NbdReply.Unsupported) throw Failed("Server does not support export lists");
            if (type != NbdReply.Server) throw Unexpected(NbdOption.List, type);
            if (found.Count == MaxExports) throw Failed($"the server has more than {MaxExports} exports");
            var reader = new NbdReader(data);
            found.Add((reader.Text(), reader.Rest()));
            if (!reader.IsGood) throw Failed("incorrect option name length");
        }
        var list = new List<NbdExportInfo>();
        foreach ((string name, string description) in found)
        {
            NbdExportInfo info = Ask(NbdOption.Info, name) ?? new NbdExportInfo(name, 0, 0);
            List<(uint, string Name)> contexts = _isStructured ? Contexts(NbdOption.ListMetaContext, name, []) : [];
            list.Add(info with { Description = description, IsStructured = _isStructured,
                Contexts = [.. contexts.Select(context => context.Name)] });
        }
        return list;
    }

    /// <summary>Leaves in good manners a server of which nothing more is wanted.</summary>
    public void Abort() => Send(NbdOption.Abort);

    bool AllowStructured()
    {
        Send(NbdOption.StructuredReply);
        return _isStructured = Receive(NbdOption.StructuredReply).Type == NbdReply.Ack;
    }

    uint? SetContext(string export, string context)
    {
        foreach ((uint id, string name) in Contexts(NbdOption.SetMetaContext, export, [context]))
            if (name == context) return id;
        return null;
    }

    List<(uint Id, string Name)> Contexts(NbdOption option, string export, string[] queries)
    {
        var found = new List<(uint, string)>();
        Send(option, [.. Counted(export), .. Number(queries.Length), .. queries.SelectMany(Counted)]);
        while (true)
        {
            (NbdReply type, byte[] data) = Receive(option);
            if (type is NbdReply.Ack or NbdReply.Unsupported or NbdReply.Invalid or NbdReply.Policy
                || found.Count == MaxExports) return found;
            if (type != NbdReply.MetaContext) throw Unexpected(option, type);
            var reader = new NbdReader(data);
            found.Add((reader.Bits32(), reader.Rest()));
        }
    }

    /// <summary>NBD_OPT_INFO and NBD_OPT_GO. Null from a server that has neither.</summary>
    NbdExportInfo? Ask(NbdOption option, string export)
    {
        Send(option, [.. Counted(export), 0, 1, 0, (byte)NbdInfo.BlockSize]);
        NbdExportInfo? info = null;
        (uint, uint, uint)? sizes = null;
        while (true)
        {
            (NbdReply type, byte[] data) = Receive(option);
            if (type == NbdReply.Unsupported) return null;
            if (type == NbdReply.Ack)
                return info is { } whole ? whole with { BlockSizes = sizes }
                    : throw Failed("broken server omitted NBD_INFO_EXPORT");
            if (type != NbdReply.Info) throw Unexpected(option, type);
            var reader = new NbdReader(data);
            switch ((NbdInfo)reader.Number16())
            {
                case NbdInfo.Export:
                    ulong length = reader.Bits64();
                    info = Info(export, length, (ushort)reader.Number16());
                    break;
                case NbdInfo.BlockSize:
                    sizes = (reader.Bits32(), reader.Bits32(), reader.Bits32());
                    if (reader.IsGood) CheckSizes(sizes.Value);
                    break;
            }
            if (!reader.IsGood) throw Failed("the server's information has a wrong length");
        }
    }

    static void CheckSizes((uint Minimum, uint Preferred, uint Maximum) sizes)
    {
        (uint minimum, uint preferred, uint maximum) = sizes;
        if (!uint.IsPow2(minimum) || minimum > NbdProtocol.MaxData)
            throw Failed($"server minimum block size {minimum} is not a power of two");
        if (!uint.IsPow2(preferred) || preferred < minimum)
            throw Failed($"server preferred block size {preferred} is not valid");
        if (maximum < preferred) throw Failed($"server maximum block size {maximum} is not valid");
    }

    NbdExportInfo ByName(string export)
    {
        Send(NbdOption.ExportName, Encoding.UTF8.GetBytes(export));
        var answer = new byte[10 + (_noZeroes ? 0 : NbdProtocol.ReservedZeroes)];
        Read(answer, "Failed to read export length");
        return Info(export, BinaryPrimitives.ReadUInt64BigEndian(answer),
            BinaryPrimitives.ReadUInt16BigEndian(answer.AsSpan(8)));
    }

    static NbdExportInfo Info(string export, ulong length, ushort flags) => length <= long.MaxValue
        ? new NbdExportInfo(export, (long)length, (NbdExportFlags)flags)
        : throw Failed($"the export has {length} bytes, more than any disk");

    static byte[] Number(int number)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(bytes, number);
        return bytes;
    }

    static byte[] Counted(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        return [.. Number(bytes.Length), .. bytes];
    }

    void Send(NbdOption option, params ReadOnlySpan<byte> data)
    {
        var message = new byte[16 + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(message, NbdProtocol.OptionMagic);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(8), (uint)option);
        BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(12), data.Length);
        data.CopyTo(message.AsSpan(16));
        Write(message);
    }

    /// <summary>A reply to an option. Errors are thrown, but where one can do without the option.</summary>
    (NbdReply Type, byte[] Data) Receive(NbdOption option)
    {
        Span<byte> header = stackalloc byte[NbdProtocol.OptionReplyLength];
        Read(header, "Failed to read option reply");
        var about = (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(header[8..]);
        var type = (NbdReply)BinaryPrimitives.ReadUInt32BigEndian(header[12..]);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(header[16..]);
        if (BinaryPrimitives.ReadUInt64BigEndian(header) != NbdProtocol.ReplyMagic)
            throw Failed("Unexpected option reply magic");
        if (about != option) throw Failed($"Unexpected option type {(uint)about} expected {(uint)option}");
        if (length > MaxReply) throw Failed($"option reply of {length} bytes is too long");
        var data = new byte[length];
        Read(data, "Failed to read option reply");
        bool isError = ((uint)type & NbdProtocol.ErrorBit) != 0;
        bool isOptional = type is NbdReply.Unsupported || (type is NbdReply.Invalid or NbdReply.Policy
            && option is NbdOption.SetMetaContext or NbdOption.ListMetaContext) || option is NbdOption.StructuredReply;
        return !isError || isOptional ? (type, data) : throw Refused(option, type, Encoding.UTF8.GetString(data));
    }

    static ConfigurationException Refused(NbdOption option, NbdReply type, string message)
    {
        string about = $"option {(uint)option} ({NameOf(option)})";
        string why = type switch
        {
            NbdReply.Policy => $"Denied by server for {about}",
            NbdReply.Invalid => $"Invalid parameters for {about}",
            NbdReply.Platform => $"Server lacks support for {about}",
            NbdReply.TlsRequired => $"TLS negotiation required before {about}\nDid you forget a valid tls-creds?",
            NbdReply.Unknown => "Requested export not available",
            NbdReply.Shutdown => $"Server shutting down before {about}",
            NbdReply.BlockSizeRequired => $"Server requires INFO_BLOCK_SIZE for {about}",
            _ => $"Unknown error code when asking for {about}",
        };
        return new ConfigurationException(message.Length == 0 ? why : $"{why}\nserver reported: {Shown(message)}");
    }

    /// <summary>A server's words without what would steer a terminal.</summary>
    static string Shown(string text) => string.Concat(text.Take(256).Select(c => char.IsControl(c) ? '?' : c));

    static string NameOf(NbdOption option) => option switch
    {
        NbdOption.List => "list",
        NbdOption.StartTls => "starttls",
        NbdOption.Info => "info",
        NbdOption.Go => "go",
        NbdOption.StructuredReply => "structured reply",
        NbdOption.ListMetaContext => "list meta context",
        NbdOption.SetMetaContext => "set meta context",
        _ => $"{(uint)option}",
    };

    static ConfigurationException Unexpected(NbdOption option, NbdReply type) =>
        Failed($"Unexpected reply type {(uint)type} for option {(uint)option} ({NameOf(option)})");

    static ConfigurationException Failed(string message) => new(message);

    void Write(ReadOnlySpan<byte> data)
    {
        try { Socket.Write(data); }
        catch (HostException e) { throw new ConfigurationException($"Failed to send option request: {Why(e)}", e); }
    }

    void Read(Span<byte> data, string what)
    {
        try { Socket.Read(data); }
        catch (HostException e) { throw new ConfigurationException($"{what}: {Why(e)}", e); }
    }

    string Why(HostException e) => _tlsFailure ?? (e.Errno == Libc.EConnReset
        ? "Unexpected end-of-file before all bytes were read" : Libc.Message(e.Errno));
}
