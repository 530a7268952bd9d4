using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Serves a shared folder by 9P: 9P2000, 9P2000.u and 9P2000.L. Spec: section 5 of the Plan 9 manual;
/// 9P2000.u as in ericvh's RFC; 9P2000.L as in diod's protocol.md.</summary>
/// <remarks>Partial, by subject: Session, Files, Names, Attributes, Folders, Data, and Legacy for what 9P2000.L has
/// other messages for. One thread at a time, but for <see cref="Finish"/>. Deviations: no authentication; locks are
/// granted always, as with QEMU, since a guest's kernel has decided before it asks.</remarks>
public sealed partial class NinePServer(SharedFolder folder)
{
    const int MostFids = 1 << 20, MostPlaces = 1 << 20;
    const uint NoFid = uint.MaxValue;

    /// <summary>A name's bytes and NUL.</summary>
    const int NameRoom = FileNames.Longest + 1;

    readonly ThrottleMember? _throttle = folder.Throttle?.Join();
    readonly Dictionary<uint, Fid> _fids = [];
    PlaceTree _places = new(MostPlaces);
    Dialect _dialect;
    long _messageSize;

    /// <summary>The folder is on this machine.</summary>
    public bool IsNear => folder.IsNear;

    /// <summary>Fids that the client has.</summary>
    public int Fids => _fids.Count;

    /// <summary>Answers a message, or says what is left to do (<see cref="NinePRequest.IsSlow"/>).</summary>
    public void Begin(NinePRequest request)
    {
        var message = new MessageReader(request.Bytes[NinePRequest.HeaderLength..]);
        var answer = new MessageWriter(request.Answer[NinePRequest.HeaderLength..]);
        int result = Judge(request);
        if (result == 0) result = Dispatch(request, ref message, ref answer);
        if (request.Slow != null) return;
        End(request, result, NinePRequest.HeaderLength + answer.Length);
    }

    /// <summary>From any thread: does what is left, and answers.</summary>
    public void Finish(NinePRequest request)
    {
        SlowWork work = request.Slow!.Value;
        int result = Work(request, work, out int length);
        work.Place.Release();
        End(request, result, length);
    }

    /// <summary>From any thread: somebody waits for all messages, and nothing is held back until
    /// <see cref="HoldAgain"/>.</summary>
    public void LetGo() => _throttle?.LetGo();

    public void HoldAgain() => _throttle?.HoldAgain();

    /// <summary>It goes with its device.</summary>
    public void Leave() => _throttle?.Leave();

    /// <summary>The driver is gone: nothing is left of the session.</summary>
    public void Reset()
    {
        Forget();
        (_dialect, _messageSize) = (Dialect.None, 0);
    }

    /// <summary>What no message may be.</summary>
    int Judge(NinePRequest request)
    {
        var type = (Message)request.Type;
        if (request.Size < NinePRequest.HeaderLength || request.Size > request.Source.Length) return -Errno.Invalid;
        if (type == Message.Version) return 0;
        if (_dialect == Dialect.None) return -Errno.Protocol;
        if (request.Size > _messageSize || type != Message.Write && request.Size > request.Bytes.Length)
            return -Errno.MessageSize;
        return folder.IsReadOnly && Changes(type) ? -Errno.ReadOnly : 0;
    }

    static bool Changes(Message type) => type is Message.Lcreate or Message.Symlink or Message.Mknod or Message.Rename
        or Message.Setattr or Message.Xattrcreate or Message.Link or Message.Mkdir or Message.Renameat
        or Message.Unlinkat or Message.Create or Message.Write or Message.Wstat;

    int Dispatch(NinePRequest request, ref MessageReader message, ref MessageWriter answer)
    {
        var type = (Message)request.Type;
        bool isLinux = _dialect == Dialect.Linux;
        return type switch
        {
            Message.Version => Version(ref message, ref answer),
            Message.Attach => Attach(ref message, ref answer),
            Message.Walk => Walk(ref message, ref answer),
            Message.Read => Read(request, ref message, ref answer),
            Message.Write => Write(request, ref message, ref answer),
            Message.Clunk => Clunk(ref message),
            Message.Remove => Remove(ref message),
            Message.Flush => 0,                                    // who has the queue has waited
            Message.Statfs when isLinux => StatFileSystem(ref message, ref answer),
            Message.Lopen when isLinux => LinuxOpen(ref message, ref answer),
            Message.Lcreate when isLinux => LinuxCreate(ref message, ref answer),
            Message.Symlink when isLinux => Symlink(ref message, ref answer),
            Message.Mknod when isLinux => MakeNode(ref message, ref answer),
            Message.Rename when isLinux => Rename(ref message),
            Message.Readlink when isLinux => ReadLink(ref message, ref answer),
            Message.Getattr when isLinux => GetAttributes(ref message, ref answer),
            Message.Setattr when isLinux => SetAttributes(ref message),
            Message.Xattrwalk when isLinux => AttributeWalk(ref message, ref answer),
            Message.Xattrcreate when isLinux => AttributeCreate(ref message),
            Message.Readdir when isLinux => ReadFolder(request, ref message, ref answer),
            Message.Fsync when isLinux => Synchronize(request, ref message),
            Message.Lock when isLinux => Lock(ref message, ref answer),
            Message.Getlock when isLinux => GetLock(ref message, ref answer),
            Message.Link when isLinux => Link(ref message),
            Message.Mkdir when isLinux => MakeFolder(ref message, ref answer),
            Message.Renameat when isLinux => RenameAt(ref message),
            Message.Unlinkat when isLinux => UnlinkAt(ref message),
            Message.Open when !isLinux => Open(ref message, ref answer),
            Message.Create when !isLinux => Create(ref message, ref answer),
            Message.Stat when !isLinux => Stat(ref message, ref answer),
            Message.Wstat when !isLinux => ChangeStat(ref message),
            _ => -Errno.NotSupported,
        };
    }

    /// <param name="length">Of the answer's own bytes.</param>
    void End(NinePRequest request, int result, int length)
    {
        const byte IsAnswer = 1;
        long most = _messageSize > 0 ? _messageSize : long.MaxValue;
        if (result >= 0 && request.Seal((byte)(request.Type + IsAnswer), length, most)) return;
        request.Data = 0;
        int errno = result < 0 ? -result : Errno.MessageSize;
        var answer = new MessageWriter(request.Answer[NinePRequest.HeaderLength..]);
        if (_dialect == Dialect.Linux) answer.Dword((uint)errno);
        else
        {
            answer.Text(System.Text.Encoding.UTF8.GetBytes(Libc.Message(errno)));
            if (_dialect == Dialect.Unix) answer.Dword((uint)errno);
        }
        byte type = (byte)((byte)(_dialect == Dialect.Linux ? Message.Lerror : Message.Error) + IsAnswer);
        if (!request.Seal(type, NinePRequest.HeaderLength + answer.Length, long.MaxValue)) request.Lose();
    }

    /// <summary>A name that a client gives, with its end behind it.</summary>
    /// <param name="room">Of <see cref="NameRoom"/> bytes.</param>
    int Named(ReadOnlySpan<byte> given, Span<byte> room, out ReadOnlySpan<byte> name)
    {
        name = default;
        int wrong = FileNames.Refuse(given);
        if (wrong < 0) return wrong;
        given.CopyTo(room);
        room[given.Length] = 0;
        name = room[..(given.Length + 1)];
        return folder.Hides(name) ? -Errno.NoEntry : 0;
    }
}
