using System.Buffers.Text;
using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>Opening and making files in 9P2000 and 9P2000.u: open(5).</summary>
public sealed partial class NinePServer
{
    // A mode to open with
    const byte AccessMask = 3, Execute = 3, Truncate = 0x10;

    // Bits of a file's mode; those below DMTMP are 9P2000.u's
    const uint DmFolder = 1u << 31, DmAppend = 1 << 30, DmSymlink = 1 << 25, DmLink = 1 << 24, DmDevice = 1 << 23,
        DmPipe = 1 << 21, DmSocket = 1 << 20, DmSetOwner = 1 << 19, DmSetGroup = 1 << 18, DmSticky = 1 << 16;

    // The host's
    const uint TypeMask = 0xF000, Pipe = 0x1000, Character = 0x2000, Folder = 0x4000, Block = 0x6000, LinkType = 0xA000,
        Socket = 0xC000, SetOwnerBit = 0x800, SetGroupBit = 0x400, StickyBit = 0x200, Access = 0x1FF;

    int Open(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        byte mode = message.Byte();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        int done = OpenFid(fid, FlagsOf(mode));
        return done < 0 ? done : AnswerOpen(fid, ref answer);
    }

    static int FlagsOf(byte mode) => ((mode & AccessMask) == Execute ? Libc.ORdOnly : mode & AccessMask)
        | ((mode & Truncate) != 0 ? Libc.OTrunc : 0);

    /// <summary>The fid stands for what was made, and is open.</summary>
    int Create(ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ReadOnlySpan<byte> given = message.Text();
        uint mode = message.Dword();
        byte open = message.Byte();
        ReadOnlySpan<byte> extension = _dialect == Dialect.Unix ? message.Text() : default;
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if (fid.Open != null || fid.Attribute != null) return -Errno.Invalid;
        uint permissions = ModeOf(mode);
        var made = new NewFile(permissions, fid.User, fid.User);
        const uint Special = DmFolder | DmSymlink | DmLink | DmDevice | DmPipe | DmSocket;
        int done;
        if ((mode & Special) == 0)
        {
            done = CreateFile(fid, given, FlagsOf(open) | Libc.OExcl, made);
            return done < 0 ? done : AnswerOpen(fid, ref answer);
        }
        if (_dialect == Dialect.Plain && (mode & Special) != DmFolder) return -Errno.NotSupported;
        done = Named(given, stackalloc byte[NameRoom], out ReadOnlySpan<byte> name);
        if (done >= 0) done = MakeSpecial(fid, name, mode & Special, made, extension);
        if (done < 0) return done;
        if (PlaceTree.Child(fid.Place, name) is not { } place) return -Errno.TooManyFilesInSystem;
        fid.MoveTo(place);
        if ((done = Identify(place, null, out Qid qid)) < 0) return done;
        if ((mode & Special) == DmFolder && (done = OpenFid(fid, Libc.ORdOnly)) < 0) return done;
        answer.Identity(qid);
        answer.Dword((uint)(_messageSize - DataHeader));
        return 0;
    }

    int MakeSpecial(Fid fid, ReadOnlySpan<byte> name, uint kind, in NewFile made, ReadOnlySpan<byte> extension)
    {
        switch (kind)
        {
            case DmFolder: return folder.MakeFolder(fid.Place, name, made);
            case DmSymlink: return MakeLink(fid, name, extension, fid.User);
            case DmLink:
                return !Utf8Parser.TryParse(extension, out uint other, out _) ? -Errno.Invalid
                    : Find(other) is not { } source ? -Errno.BadFile
                    : source.Place.IsRoot ? -Errno.Perm : folder.HardLink(source.Place, fid.Place, name);
            case DmPipe: return folder.MakeNode(fid.Place, name, made with { Mode = made.Mode | Pipe }, 0);
            case DmSocket: return folder.MakeNode(fid.Place, name, made with { Mode = made.Mode | Socket }, 0);
            case DmDevice: return MakeDevice(fid, name, made, extension);
            default: return -Errno.Invalid;
        }
    }

    /// <summary>"c 5 1".</summary>
    int MakeDevice(Fid fid, ReadOnlySpan<byte> name, in NewFile made, ReadOnlySpan<byte> text)
    {
        if (text.Length < 2 || text[1] != ' ') return -Errno.Invalid;
        uint type = text[0] switch { (byte)'c' => Character, (byte)'b' => Block, _ => 0 };
        ReadOnlySpan<byte> numbers = text[2..];
        if (type == 0 || !Utf8Parser.TryParse(numbers, out uint major, out int used) || used >= numbers.Length
            || !Utf8Parser.TryParse(numbers[(used + 1)..], out uint minor, out _)) return -Errno.Invalid;
        return folder.MakeNode(fid.Place, name, made with { Mode = made.Mode | type }, DeviceOf(major, minor));
    }

    /// <summary>As the host has permissions.</summary>
    static uint ModeOf(uint mode) => mode & Access | ((mode & DmSetOwner) != 0 ? SetOwnerBit : 0)
        | ((mode & DmSetGroup) != 0 ? SetGroupBit : 0) | ((mode & DmSticky) != 0 ? StickyBit : 0);
}
