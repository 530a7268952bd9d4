using System.Buffers.Binary;
using System.Text;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Storage.Nbd;

/// <summary>The server's side until a client has chosen its export. Spec: doc/proto.md, "Fixed newstyle
/// negotiation".</summary>
/// <remarks>Of memory a client gets a buffer of <see cref="MaxOption"/> bytes, of time what the server's options
/// say.</remarks>
sealed class NbdServerHandshake : IDisposable
{
    const int MaxOption = 64 << 10;

    readonly NbdServer _server;
    readonly StreamSocket _peer;
    readonly byte[] _data = new byte[MaxOption];
    TlsRelay? _tls;
    bool _isFixed, _noZeroes;

    public NbdServerHandshake(NbdServer server, StreamSocket peer)
    {
        (_server, _peer) = (server, peer);
        Socket = new BlockingSocket(peer) { Deadline = Environment.TickCount64
            + (long)server.Options.Patience.TotalMilliseconds };
    }

    /// <summary>What the client is talked to by from now on.</summary>
    public BlockingSocket Socket { get; private set; }

    public bool IsStructured { get; private set; }

    /// <summary>Those that the client has chosen.</summary>
    public NbdContexts Contexts { get; private set; } = NbdContexts.None;

    public void Dispose()
    {
        Socket.Dispose();
        _tls?.Dispose();
    }

    /// <returns>Null: the client has gone, or is not wanted.</returns>
    /// <exception cref="HostException">The same.</exception>
    public NbdExport? Run()
    {
        Span<byte> hello = stackalloc byte[18];
        BinaryPrimitives.WriteUInt64BigEndian(hello, NbdProtocol.Magic);
        BinaryPrimitives.WriteUInt64BigEndian(hello[8..], NbdProtocol.OptionMagic);
        BinaryPrimitives.WriteUInt16BigEndian(hello[16..],
            (ushort)(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes));
        Socket.Write(hello);
        Span<byte> answer = stackalloc byte[4];
        if (!Socket.TryRead(answer)) return null;
        uint flags = BinaryPrimitives.ReadUInt32BigEndian(answer);
        if ((flags & ~(uint)(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes)) != 0) return null;
        _isFixed = (flags & (uint)NbdHandshakeFlags.FixedNewstyle) != 0;
        _noZeroes = (flags & (uint)NbdHandshakeFlags.NoZeroes) != 0;
        while (true)
        {
            if (!ReadOption(out NbdOption option, out int length)) return null;
            if (!TryOption(option, length, out NbdExport? chosen)) return null;
            if (chosen == null) continue;
            Socket.Deadline = long.MaxValue;
            return chosen;
        }
    }

    bool NeedsTls => _server.Options.Credentials != null && _tls == null;

    /// <summary>The data lie in the buffer; -1 for more than fits there, which has been passed over.</summary>
    bool ReadOption(out NbdOption option, out int length)
    {
        (option, length) = (default, 0);
        Span<byte> header = stackalloc byte[16];
        if (!Socket.TryRead(header) || BinaryPrimitives.ReadUInt64BigEndian(header) != NbdProtocol.OptionMagic)
            return false;
        option = (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(header[8..]);
        uint size = BinaryPrimitives.ReadUInt32BigEndian(header[12..]);
        if (size > NbdProtocol.MaxData) return false;
        length = size > MaxOption ? -1 : (int)size;
        if (length < 0) Socket.Skip(size);
        else Socket.Read(_data.AsSpan(0, length));
        return true;
    }

    /// <returns>False: the connection is over.</returns>
    bool TryOption(NbdOption option, int length, out NbdExport? chosen)
    {
        chosen = null;
        ReadOnlySpan<byte> data = _data.AsSpan(0, Math.Max(0, length));
        if (!_isFixed && option != NbdOption.ExportName) return false;
        if (option == NbdOption.Abort)
        {
            Reply(option, NbdReply.Ack);
            return false;
        }
        if (option == NbdOption.ExportName)
            return !NeedsTls && length is >= 0 and <= NbdProtocol.MaxString && ChooseByName(data, out chosen);
        if (length < 0)
        {
            Reply(option, NbdReply.TooBig, $"option data is longer than {MaxOption} bytes");
            return true;
        }
        if (NeedsTls && option != NbdOption.StartTls)
        {
            Reply(option, NbdReply.TlsRequired, $"Option 0x{(uint)option:x} not permitted before TLS");
            return true;
        }
        switch (option)
        {
            case NbdOption.List: List(length); return true;
            case NbdOption.StartTls: return StartTls(length);
            case NbdOption.Info or NbdOption.Go:
                chosen = Describe(option, data);
                return true;
            case NbdOption.StructuredReply: AllowStructured(length); return true;
            case NbdOption.ListMetaContext or NbdOption.SetMetaContext: NegotiateContexts(option, data); return true;
            default:
                Reply(option, NbdReply.Unsupported, $"Unsupported option {(uint)option} (<unknown>)");
                return true;
        }
    }

    bool ChooseByName(ReadOnlySpan<byte> name, out NbdExport? chosen)
    {
        chosen = _server.Find(Encoding.UTF8.GetString(name));
        if (chosen == null) return false;
        KeepContextsOf(chosen);
        Span<byte> answer = stackalloc byte[10 + NbdProtocol.ReservedZeroes];
        answer.Clear();
        BinaryPrimitives.WriteUInt64BigEndian(answer, (ulong)chosen.Length);
        BinaryPrimitives.WriteUInt16BigEndian(answer[8..], (ushort)FlagsOf(chosen));
        Socket.Write(_noZeroes ? answer[..10] : answer);
        return true;
    }

    void List(int length)
    {
        if (length != 0)
        {
            Reply(NbdOption.List, NbdReply.Invalid, "option 'list' should have zero length");
            return;
        }
        foreach (NbdExport export in _server.Exports)
        {
            byte[] name = Encoding.UTF8.GetBytes(export.Name);
            var size = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(size, name.Length);
            Reply(NbdOption.List, NbdReply.Server, [.. size, .. name, .. Encoding.UTF8.GetBytes(export.Description)]);
        }
        Reply(NbdOption.List, NbdReply.Ack);
    }

    bool StartTls(int length)
    {
        const NbdOption option = NbdOption.StartTls;
        if (length != 0) Reply(option, NbdReply.Invalid, "option 'starttls' should have zero length");
        else if (_server.Options.Credentials == null) Reply(option, NbdReply.Policy, "TLS not configured");
        else if (_tls != null) Reply(option, NbdReply.Invalid, "TLS already enabled");
        else
        {
            Reply(option, NbdReply.Ack);
            if (Socket.Buffered > 0) return false;                 // said before it was safe to say anything
            var patience = TimeSpan.FromMilliseconds(Math.Max(1, Socket.Deadline - Environment.TickCount64));
            _tls = new TlsRelay(_peer, _server.Options.Credentials, null, patience, static () => { }, static _ => { });
            Socket = new BlockingSocket(_tls.Plain) { Deadline = Socket.Deadline };
        }
        return true;
    }

    void AllowStructured(int length)
    {
        const NbdOption option = NbdOption.StructuredReply;
        if (length != 0) Reply(option, NbdReply.Invalid, "option 'structured reply' should have zero length");
        else if (IsStructured) Reply(option, NbdReply.Invalid, "structured reply already negotiated");
        else
        {
            IsStructured = true;
            Reply(option, NbdReply.Ack);
        }
    }

    /// <summary>NBD_OPT_INFO and NBD_OPT_GO: the name, and what the client wants to know.</summary>
    /// <returns>The export that the client goes on with.</returns>
    NbdExport? Describe(NbdOption option, ReadOnlySpan<byte> data)
    {
        var reader = new NbdReader(data);
        string name = reader.Text();
        int count = reader.Number16();
        bool wantsName = false, wantsDescription = false;
        for (int i = 0; i < count && reader.IsGood; i++)
        {
            var wanted = (NbdInfo)reader.Number16();
            wantsName |= wanted == NbdInfo.Name;
            wantsDescription |= wanted == NbdInfo.Description;
        }
        if (!reader.IsGood || reader.Left != 0)
        {
            Reply(option, NbdReply.Invalid, $"option {(uint)option}: its lengths do not agree");
            return null;
        }
        if (_server.Find(name) is not { } export)
        {
            Reply(option, NbdReply.Unknown, $"export '{name}' not present");
            return null;
        }
        KeepContextsOf(export);
        if (wantsName) Info(option, NbdInfo.Name, Encoding.UTF8.GetBytes(name));
        if (wantsDescription && export.Description.Length > 0)
            Info(option, NbdInfo.Description, Encoding.UTF8.GetBytes(export.Description));
        Span<byte> sizes = stackalloc byte[12];
        BinaryPrimitives.WriteUInt32BigEndian(sizes, 1);
        BinaryPrimitives.WriteUInt32BigEndian(sizes[4..], 4096);
        BinaryPrimitives.WriteUInt32BigEndian(sizes[8..], NbdProtocol.MaxData);
        Info(option, NbdInfo.BlockSize, sizes);
        BinaryPrimitives.WriteUInt64BigEndian(sizes, (ulong)export.Length);
        BinaryPrimitives.WriteUInt16BigEndian(sizes[8..], (ushort)FlagsOf(export));
        Info(option, NbdInfo.Export, sizes[..10]);
        Reply(option, NbdReply.Ack);
        return option == NbdOption.Go ? export : null;
    }

    void Info(NbdOption option, NbdInfo what, ReadOnlySpan<byte> value)
    {
        var data = new byte[2 + value.Length];
        BinaryPrimitives.WriteUInt16BigEndian(data, (ushort)what);
        value.CopyTo(data.AsSpan(2));
        Reply(option, NbdReply.Info, data);
    }

    void NegotiateContexts(NbdOption option, ReadOnlySpan<byte> data)
    {
        bool isList = option == NbdOption.ListMetaContext;
        if (!IsStructured)
        {
            Reply(option, NbdReply.Invalid, $"request option '{(isList ? "list" : "set")} meta context' when "
                + "structured reply is not negotiated");
            return;
        }
        var reader = new NbdReader(data);
        string name = reader.Text();
        if (!isList) Contexts = NbdContexts.None;
        NbdExport? export = _server.Find(name);
        if (reader.IsGood && export == null)
        {
            Reply(option, NbdReply.Unknown, $"export '{name}' not present");
            return;
        }
        int count = reader.Number32();
        var found = new NbdContexts(export);
        if (isList && count == 0) found.SelectAll();
        for (int i = 0; i < count && reader.IsGood; i++) found.Select(reader.Text(), isList);
        if (!reader.IsGood || reader.Left != 0)
        {
            Reply(option, NbdReply.Invalid, $"option {(uint)option}: its lengths do not agree");
            return;
        }
        foreach (NbdContext context in found.Selected)
        {
            byte[] text = Encoding.UTF8.GetBytes(context.Name);
            var answer = new byte[4 + text.Length];
            BinaryPrimitives.WriteUInt32BigEndian(answer, isList ? 0 : context.Id);
            text.CopyTo(answer, 4);
            Reply(option, NbdReply.MetaContext, answer);
        }
        Reply(option, NbdReply.Ack);
        if (!isList) Contexts = found;
    }

    /// <summary>What was chosen for another export counts no more.</summary>
    void KeepContextsOf(NbdExport export)
    {
        if (Contexts.Export != export) Contexts = NbdContexts.None;
    }

    NbdExportFlags FlagsOf(NbdExport export)
    {
        NbdExportFlags flags = NbdExportFlags.HasFlags | NbdExportFlags.SendFlush | NbdExportFlags.SendFua
            | NbdExportFlags.SendCache;
        flags |= export.IsReadOnly ? NbdExportFlags.ReadOnly
            : NbdExportFlags.SendTrim | NbdExportFlags.SendWriteZeroes | NbdExportFlags.SendFastZero;
        if (_server.Options.MaxConnections != 1) flags |= NbdExportFlags.CanMultiConn;
        return IsStructured ? flags | NbdExportFlags.SendDf : flags;
    }

    void Reply(NbdOption option, NbdReply type, string message) =>
        Reply(option, type, Encoding.UTF8.GetBytes(message));

    void Reply(NbdOption option, NbdReply type, ReadOnlySpan<byte> data = default)
    {
        var reply = new byte[NbdProtocol.OptionReplyLength + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(reply, NbdProtocol.ReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(8), (uint)option);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(12), (uint)type);
        BinaryPrimitives.WriteInt32BigEndian(reply.AsSpan(16), data.Length);
        data.CopyTo(reply.AsSpan(NbdProtocol.OptionReplyLength));
        Socket.Write(reply);
    }
}
