namespace Qkvm.Storage.Drivers;

/// <summary>Linux error numbers, asm-generic/errno-base.h and errno.h.</summary>
static class Errno
{
    public const int Perm = 1, NoEnt = 2, Io = 5, NxIo = 6, Acces = 13, Inval = 22, FBig = 27, NoSpc = 28, RoFs = 30,
        OpNotSupp = 95;
}
