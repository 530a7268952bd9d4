namespace Qkvm.Storage.Nbd;

/// <summary>Numbers of the network block device protocol. Spec: NBD's doc/proto.md, "Values"; all integers are
/// big-endian.</summary>
static class NbdProtocol
{
    /// <summary>"NBDMAGIC", "IHAVEOPT", and of the old style.</summary>
    public const ulong Magic = 0x4E42444D41474943, OptionMagic = 0x49484156454F5054, OldMagic = 0x00420281861253;
    public const ulong ReplyMagic = 0x3E889045565A9;
    public const uint RequestMagic = 0x25609513, SimpleReplyMagic = 0x67446698, ChunkMagic = 0x668E33EF;

    public const int RequestLength = 28, SimpleReplyLength = 16, ChunkLength = 20, OptionReplyLength = 20;
    public const int ReservedZeroes = 124;

    /// <summary>Bytes of a name, a query or a message.</summary>
    public const int MaxString = 4096;

    /// <summary>Bytes of one request's data.</summary>
    public const uint MaxData = 32 << 20;

    public const int DefaultPort = 10809;

    // Metadata contexts: qemu's are documented in its docs/interop/nbd.txt.
    public const string Allocation = "base:allocation", Depth = "qemu:allocation-depth", Bitmap = "qemu:dirty-bitmap:";
    public const uint StateHole = 1, StateZero = 2, StateDirty = 1;

    public const uint ErrorBit = 1u << 31;
}

[Flags]
enum NbdHandshakeFlags : ushort { FixedNewstyle = 1, NoZeroes = 2 }

enum NbdOption : uint
{
    ExportName = 1, Abort = 2, List = 3, StartTls = 5, Info = 6, Go = 7, StructuredReply = 8, ListMetaContext = 9,
    SetMetaContext = 10,
}

enum NbdReply : uint
{
    Ack = 1, Server = 2, Info = 3, MetaContext = 4,
    Unsupported = NbdProtocol.ErrorBit + 1, Policy, Invalid, Platform, TlsRequired, Unknown, Shutdown,
    BlockSizeRequired, TooBig,
}

enum NbdInfo : ushort { Export = 0, Name = 1, Description = 2, BlockSize = 3 }

/// <summary>What an export takes and is: transmission flags.</summary>
[Flags]
enum NbdExportFlags : ushort
{
    HasFlags = 1, ReadOnly = 2, SendFlush = 4, SendFua = 8, Rotational = 16, SendTrim = 32, SendWriteZeroes = 64,
    SendDf = 128, CanMultiConn = 256, SendResize = 512, SendCache = 1024, SendFastZero = 2048,
}

enum NbdCommand : ushort
{
    Read = 0, Write = 1, Disconnect = 2, Flush = 3, Trim = 4, Cache = 5, WriteZeroes = 6, BlockStatus = 7,
}

[Flags]
enum NbdCommandFlags : ushort { None = 0, Fua = 1, NoHole = 2, Df = 4, ReqOne = 8, FastZero = 16 }

/// <summary>Chunks of structured replies.</summary>
enum NbdChunk : ushort
{
    None = 0, OffsetData = 1, OffsetHole = 2, BlockStatus = 5, Error = (1 << 15) + 1, ErrorOffset = (1 << 15) + 2,
}

/// <summary>Errors as they are sent: of Linux, those that all systems can make sense of.</summary>
static class NbdError
{
    public const uint Perm = 1, Io = 5, NoMem = 12, Inval = 22, NoSpc = 28, Overflow = 75, NotSup = 95, Shutdown = 108;

    const int RoFs = 30, FBig = 27, DQuot = 122;

    public static uint Of(int errno) => errno switch
    {
        RoFs => Perm,
        FBig or DQuot => NoSpc,
        (int)Perm or (int)Io or (int)NoMem or (int)NoSpc or (int)Overflow or (int)NotSup or (int)Shutdown =>
            (uint)errno,
        _ => Inval,
    };

    /// <summary>What a client makes of one.</summary>
    public static int ToErrno(uint error) => error is Perm or Io or NoMem or NoSpc or Overflow or NotSup or Shutdown
        ? (int)error : (int)Inval;
}
