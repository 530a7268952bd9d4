using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>How a session begins, and its fids.</summary>
public sealed partial class NinePServer
{
    const int SmallestMessage = 4096;
    const int MostNames = 16;                                      // MAXWELEM, walk(5)

    /// <summary>version(5): all fids are gone.</summary>
    int Version(ref MessageReader message, ref MessageWriter answer)
    {
        uint size = message.Dword();
        ReadOnlySpan<byte> version = message.Text();
        if (message.IsCut) return -Errno.Invalid;
        Forget();
        _dialect = version.SequenceEqual("9P2000.L"u8) ? Dialect.Linux
            : version.SequenceEqual("9P2000.u"u8) ? Dialect.Unix
            : version.SequenceEqual("9P2000"u8) ? Dialect.Plain : Dialect.None;
        _messageSize = 0;
        if (_dialect != Dialect.None && size < SmallestMessage)
        {
            _messageSize = SmallestMessage;                        // its errors have room
            return -Errno.MessageSize;
        }
        _messageSize = size;
        answer.Dword(size);
        answer.Text(_dialect == Dialect.None ? "unknown"u8 : version);
        return 0;
    }

    int Attach(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        message.Dword();                                           // afid: nobody needs to say who he is
        message.Text();
        message.Text();
        uint user = _dialect == Dialect.Plain ? 0 : message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        int done = Identify(_places.Root, null, out Qid qid);
        if (done < 0) return done;
        _places.Root.Hold();
        if ((done = Add(number, new Fid(_places.Root, user))) < 0) return done;
        answer.Identity(qid);
        return 0;
    }

    /// <summary>walk(5): as far as the names lead; the new fid is made if they all do.</summary>
    int Walk(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword(), newNumber = message.Dword();
        int count = message.Word();
        if (message.IsCut || count > MostNames) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if (newNumber != number && (newNumber == NoFid || _fids.ContainsKey(newNumber))) return -Errno.Invalid;
        if (newNumber == number && (fid.Open != null || fid.Attribute != null)) return -Errno.Invalid;
        Span<byte> room = stackalloc byte[NameRoom];
        Span<Qid> qids = stackalloc Qid[MostNames];
        Place at = fid.Place;
        at.Hold();
        int walked = 0, done = 0;
        for (; walked < count; walked++)
        {
            ReadOnlySpan<byte> name = message.Text();
            done = message.IsCut ? -Errno.Invalid : Step(ref at, name, room);
            if (done < 0 || (done = Identify(at, null, out qids[walked])) < 0) break;
        }
        bool isWhole = walked == count;
        if (isWhole && newNumber == number) fid.MoveTo(at);
        else if (isWhole) done = Add(newNumber, new Fid(at, fid.User));
        else at.Release();
        if (done < 0 && (walked == 0 || isWhole)) return done;
        answer.Word((ushort)walked);
        foreach (Qid qid in qids[..walked]) answer.Identity(qid);
        return 0;
    }

    /// <summary>One name further; ".." leads up to the root at most.</summary>
    int Step(ref Place at, ReadOnlySpan<byte> given, Span<byte> room)
    {
        Place? next;
        if (given.SequenceEqual(".."u8))
        {
            next = at.IsRoot ? at : at.Folder;
            if (next == null) return -Errno.NoEntry;
            next.Hold();
        }
        else
        {
            int wrong = Named(given, room, out ReadOnlySpan<byte> name);
            if (wrong < 0) return wrong == -Errno.NameTooLong ? wrong : -Errno.NoEntry;
            next = PlaceTree.Child(at, name);
            if (next == null) return -Errno.TooManyFilesInSystem;
        }
        at.Release();
        at = next;
        return 0;
    }

    int Clunk(ref MessageReader message)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (!_fids.Remove(number, out Fid? fid)) return -Errno.BadFile;
        return Close(fid);
    }

    /// <summary>What a client says of a stat's type and version.</summary>
    int Identify(Place place, OpenFile? file, out Qid qid) => Identify(place, file, out qid, out _);

    int Identify(Place place, OpenFile? file, out Qid qid, out FileStatus status)
    {
        qid = default;
        int done = folder.Stat(place, file, out status);
        if (done < 0 || (done = folder.Identify(status, out ulong number)) < 0) return done;
        qid = new Qid(status, number);
        return 0;
    }

    Fid? Find(uint number) => _fids.GetValueOrDefault(number);

    /// <summary>Takes the fid with its place, or gives that back.</summary>
    int Add(uint number, Fid fid)
    {
        int wrong = number == NoFid || _fids.ContainsKey(number) ? -Errno.Invalid
            : _fids.Count >= MostFids ? -Errno.TooManyFilesInSystem : 0;
        if (wrong < 0) fid.Place.Release();
        else _fids.Add(number, fid);
        return wrong;
    }

    int Close(Fid fid)
    {
        int done = fid.Attribute is { } attribute ? EndAttribute(fid, attribute) : 0;
        if (fid.Open is { } open) Leave(open);
        fid.Place.Release();
        return done;
    }

    void Forget()
    {
        foreach (Fid fid in _fids.Values)
        {
            if (fid.Open is { } open) Leave(open);
        }
        _fids.Clear();
        _attributeBytes = 0;
        _places = new PlaceTree(MostPlaces);
    }
}
