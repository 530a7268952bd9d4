using Qkvm.Core.Block;
using Qkvm.Core.Files;
using Qkvm.Host;

namespace Qkvm.Hw.NineP;

/// <summary>What files contain: read and written in place, where the client's memory is.</summary>
public sealed partial class NinePServer
{
    /// <summary>More at once takes long enough to let others go first.</summary>
    const long LongWrite = 128 << 10;

    int Read(NinePRequest request, ref MessageReader message, ref MessageWriter answer)
    {
        uint number = message.Dword();
        ulong offset = message.Qword();
        uint asked = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        long count = RoomFor(request, asked);
        if (count < 0) return -Errno.MessageSize;
        if (fid.Attribute is { Name: null } attribute)
        {
            long left = offset >= (ulong)attribute.Value.Length ? 0 : attribute.Value.Length - (long)offset;
            count = Math.Min(count, left);
            request.Target.Slice(NinePRequest.DataOffset, count).CopyFrom(attribute.Value.AsSpan(
                (int)Math.Min(offset, (ulong)attribute.Value.Length), (int)count));
            return AnswerData(request, count, ref answer);
        }
        if (fid.Open is not { } open) return -Errno.BadFile;
        if (offset > (ulong)(long.MaxValue - count)) return -Errno.Invalid;
        if (Use(open, out int wrong) is not { } file) return wrong;
        if (_dialect != Dialect.Linux)
        {
            int kind = Identify(fid.Place, file, out _, out FileStatus status);
            if (kind < 0) return kind;
            if (status.IsDirectory)
                return AnswerData(request, ReadStats(request, fid, file, offset, count), ref answer);
        }
        if (Hold(request, new SlowWork(open, file, Message.Read, (long)offset, count))) return 0;
        ScatterList target = request.Target.Slice(NinePRequest.DataOffset, count);
        long done = file.Read((long)offset, target, waits: false);
        bool isRefused = done is -Errno.NotSupported or -Errno.NotBuilt or -Errno.Perm; // by a kernel, or a filter
        if (done != -Errno.Again && !isRefused) return AnswerData(request, done, ref answer);
        Postpone(request, new SlowWork(open, file, Message.Read, (long)offset, count));
        return 0;
    }

    int Write(NinePRequest request, ref MessageReader message, ref MessageWriter answer)
    {
        const int Header = NinePRequest.HeaderLength + sizeof(uint) + sizeof(ulong) + sizeof(uint);
        uint number = message.Dword();
        ulong offset = message.Qword();
        uint count = message.Dword();
        if (message.IsCut || count > request.Size - Header) return -Errno.Invalid;
        if (Find(number) is not { } fid) return -Errno.BadFile;
        ScatterList source = request.Source.Slice(Header, count);
        if (fid.Attribute is { Name: not null } attribute)
        {
            if (offset > (ulong)attribute.Value.Length) return -Errno.NoSpace;
            int taken = (int)Math.Min(count, (uint)attribute.Value.Length - (uint)offset);
            source.Slice(0, taken).CopyTo(attribute.Value.AsSpan((int)offset, taken));
            attribute.Written = Math.Max(attribute.Written, (int)offset + taken);
            answer.Dword((uint)taken);
            return 0;
        }
        if (fid.Open is not { } open) return -Errno.BadFile;
        if (offset > (ulong)(long.MaxValue - count)) return -Errno.FileTooBig;
        if (Use(open, out int wrong) is not { } file) return wrong;
        var work = new SlowWork(open, file, Message.Write, (long)offset, count);
        if (Hold(request, work)) return 0;
        if (count > LongWrite)
        {
            Postpone(request, work);
            return 0;
        }
        long done = file.Write((long)offset, source);
        if (done < 0) return (int)done;
        answer.Dword((uint)done);
        return 0;
    }

    int Synchronize(NinePRequest request, ref MessageReader message)
    {
        uint number = message.Dword();
        if (message.IsCut) return -Errno.Invalid;
        uint dataAlone = message.Dword();                          // clients of old do not say it
        if (Find(number) is not { } fid) return -Errno.BadFile;
        if (fid.Open is not { } open) return -Errno.BadFile;
        if (Use(open, out int wrong) is not { } file) return wrong;
        Postpone(request, new SlowWork(open, file, Message.Fsync, 0, 0, !message.IsCut && dataAlone != 0));
        return 0;
    }

    /// <summary>Limits of the folder's speed hold it back.</summary>
    bool Hold(NinePRequest request, in SlowWork work)
    {
        if (_throttle == null) return false;
        ValueTask wait = _throttle.WaitAsync(work.What == Message.Write, work.Count);
        if (wait.IsCompleted) return false;
        Postpone(request, work with { Until = wait.AsTask() });
        return true;
    }

    static void Postpone(NinePRequest request, SlowWork work)
    {
        work.Place.Hold();
        request.Slow = work;
    }

    /// <summary>On any thread.</summary>
    static int Work(NinePRequest request, in SlowWork work, out int length)
    {
        const int WriteHeader = NinePRequest.HeaderLength + sizeof(uint) + sizeof(ulong) + sizeof(uint);
        var answer = new MessageWriter(request.Answer[NinePRequest.HeaderLength..]);
        int result;
        switch (work.What)
        {
            case Message.Read:
                long done = work.File.Read(work.Offset, request.Target.Slice(NinePRequest.DataOffset, work.Count),
                    waits: true);
                result = AnswerData(request, done, ref answer);
                break;
            case Message.Write:
                long written = work.File.Write(work.Offset, request.Source.Slice(WriteHeader, work.Count));
                result = (int)Math.Min(0, written);
                answer.Dword((uint)written);
                break;
            default:
                result = work.File.Synchronize(work.DataAlone);
                break;
        }
        length = NinePRequest.HeaderLength + answer.Length;
        return result;
    }

    static int AnswerData(NinePRequest request, long count, ref MessageWriter answer)
    {
        if (count < 0) return (int)count;
        answer.Dword((uint)count);
        request.Data = count;
        return 0;
    }

    /// <summary>Bytes of data that an answer may have; negative: not even their count has room.</summary>
    long RoomFor(NinePRequest request, uint asked) =>
        Math.Min(asked, Math.Min(_messageSize, request.Target.Length) - NinePRequest.DataOffset);
}
