using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Testing;

/// <summary>A shared folder that is a file, and whose disk is slow: synchronizing takes until the test says
/// so.</summary>
public sealed class SlowFolder(bool isNear = false) : SharedFolder("slow", isReadOnly: false)
{
    public override bool IsNear => isNear;

    /// <summary>Does what a client waits for who asks for the file's status.</summary>
    public Action OnStat { get; set; } = static () => { };

    public ManualResetEventSlim Disk { get; } = new();

    public override ThrottleGroup? Throttle => Limits;
    public ThrottleGroup? Limits { get; init; }

    public override int MostOpen => 16;
    public override bool KnowsTypes => true;
    public override bool Hides(ReadOnlySpan<byte> name) => false;

    public override int Stat(Place place, OpenFile? file, out FileStatus status)
    {
        OnStat();
        status = new FileStatus { Mode = 0x81A4, Size = 5 };
        return 0;
    }

    public override int Open(Place place, int flags, out OpenFile? file)
    {
        file = new SlowFile(Disk);
        return 0;
    }

    public override int Identify(in FileStatus status, out ulong number)
    {
        number = status.Inode;
        return 0;
    }

    public override ulong? IdentifyEntry(ulong inode) => inode;

    public override int Create(Place folder, ReadOnlySpan<byte> name, int flags, in NewFile made, out OpenFile? file)
    {
        file = null;
        return No;
    }

    public override int StatFileSystem(Place place, out FileSystemStatus status)
    {
        status = default;
        return No;
    }

    const int No = -Errno.NotSupported;

    public override int ReadLink(Place place, Span<byte> target) => No;
    public override int MakeFolder(Place folder, ReadOnlySpan<byte> name, in NewFile made) => No;
    public override int MakeNode(Place folder, ReadOnlySpan<byte> name, in NewFile made, ulong device) => No;
    public override int MakeLink(Place folder, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target,
        in NewFile made) => No;
    public override int HardLink(Place file, Place folder, ReadOnlySpan<byte> name) => No;
    public override int Rename(Place folder, ReadOnlySpan<byte> name, Place newFolder,
        ReadOnlySpan<byte> newName) => No;
    public override int Remove(Place folder, ReadOnlySpan<byte> name, bool? isFolder) => No;
    public override int Change(Place place, OpenFile? file, in FileChanges changes) => No;
    public override int GetAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name, Span<byte> value) => No;
    public override int ListAttributes(Place place, OpenFile? file, Span<byte> names) => No;
    public override int SetAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value,
        int flags) => No;
    public override int RemoveAttribute(Place place, OpenFile? file, ReadOnlySpan<byte> name) => No;

    sealed class SlowFile(ManualResetEventSlim disk) : OpenFile
    {
        public override long Read(long offset, in ScatterList target, bool waits) => 0;
        public override long Write(long offset, in ScatterList source) => source.Length;

        public override int Synchronize(bool dataAlone)
        {
            disk.Wait();
            return 0;
        }

        public override int Stat(out FileStatus status)
        {
            status = default;
            return 0;
        }

        public override int ReadFolder(long position, Span<byte> entries) => 0;
        public override void Dispose() { }
    }
}
