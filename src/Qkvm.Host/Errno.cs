namespace Qkvm.Host;

/// <summary>Why a call failed, by Linux's numbers on x86-64: errno(3).</summary>
public static class Errno
{
    public const int Perm = 1, NoEntry = 2, Io = 5, NoDevice = 6, TooBig = 7, BadFile = 9, Again = 11, NoMemory = 12,
        Access = 13, Exists = 17, CrossDevice = 18, NotSuchDevice = 19, NotFolder = 20, IsFolder = 21, Invalid = 22,
        TooManyFilesInSystem = 23, TooManyFiles = 24, FileTooBig = 27, NoSpace = 28, ReadOnly = 30, OutOfRange = 34,
        NameTooLong = 36, NotBuilt = 38, NotEmpty = 39, Loop = 40, NoData = 61, Protocol = 71, Overflow = 75,
        MessageSize = 90, NotSupported = 95, Stale = 116;
}
