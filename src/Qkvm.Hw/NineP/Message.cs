namespace Qkvm.Hw.NineP;

/// <summary>Types of messages; an answer's is one more. Sections "Messages" of intro(5) of Plan 9, and diod's
/// protocol.md for those of 9P2000.L.</summary>
enum Message : byte
{
    Lerror = 6, Statfs = 8, Lopen = 12, Lcreate = 14, Symlink = 16, Mknod = 18, Rename = 20, Readlink = 22,
    Getattr = 24, Setattr = 26, Xattrwalk = 30, Xattrcreate = 32, Readdir = 40, Fsync = 50, Lock = 52, Getlock = 54,
    Link = 70, Mkdir = 72, Renameat = 74, Unlinkat = 76,
    Version = 100, Auth = 102, Attach = 104, Error = 106, Flush = 108, Walk = 110, Open = 112, Create = 114,
    Read = 116, Write = 118, Clunk = 120, Remove = 122, Stat = 124, Wstat = 126,
}

/// <summary>What client and server have agreed on: 9P2000, with UNIX's extensions, or Linux's.</summary>
enum Dialect { None, Plain, Unix, Linux }
