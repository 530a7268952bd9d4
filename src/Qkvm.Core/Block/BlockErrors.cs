using System.Text.Json.Serialization;
using Qkvm.Core.Machine;

namespace Qkvm.Core.Block;

/// <summary>What is to follow when the host's disk fails a request, as rerror= and werror= name it.</summary>
public enum ErrorPolicy { Report, Ignore, Stop, Enospc }

/// <summary>What does follow: the guest hears of it; it takes the request for done; the machine stops.</summary>
[JsonConverter(typeof(NamedEnum<ErrorAction>))]
public enum ErrorAction { Report, Ignore, Stop }

/// <summary>A disk's errors. Where one stops the machine, the request is kept, and made again when the machine goes
/// on: somebody may have made room meanwhile. From any thread.</summary>
public sealed class BlockErrors
{
    const int ENoSpace = 28, ENoMedium = 123;

    readonly Queue<(BlockQueue Queue, BlockRequest Request, int Errno)> _kept = new(); // within its lock

    public ErrorPolicy OnRead { get; set; } = ErrorPolicy.Report;
    public ErrorPolicy OnWrite { get; set; } = ErrorPolicy.Enospc;

    /// <summary>Hears of each with its errno, and stops the machine where that is the action. Null: nobody would let it
    /// go on again, and the guest hears of all.</summary>
    public Action<BlockOperation, ErrorAction, int>? Failed { get; set; }

    /// <summary>The errno of the first request that waits for the machine; 0: none does.</summary>
    public int Waiting
    {
        get
        {
            lock (_kept) return _kept.TryPeek(out var first) ? first.Errno : 0;
        }
    }

    public static bool IsNoSpace(int errno) => errno == ENoSpace;

    /// <summary>The machine goes on.</summary>
    public void Retry()
    {
        foreach ((BlockQueue queue, BlockRequest request, _) in TakeAll()) queue.Retry(request);
    }

    /// <summary>The device is told after all, because it is to have no request any more.</summary>
    internal void GiveUp()
    {
        foreach ((BlockQueue queue, BlockRequest request, int errno) in TakeAll()) queue.Fail(request, errno);
    }

    /// <summary>The device has gone, and its requests with it.</summary>
    internal void Forget()
    {
        Failed = null;
        TakeAll();
    }

    /// <param name="mayKeep">Nobody waits for the disk's last request.</param>
    /// <param name="errno">What the device hears.</param>
    /// <returns>The request is kept; else the device is to be told.</returns>
    internal bool Keeps(BlockQueue queue, BlockRequest request, bool mayKeep, ref int errno)
    {
        if (errno == ENoMedium || Failed is not { } failed) return false;
        ErrorAction action = (request.Operation == BlockOperation.Read ? OnRead : OnWrite) switch
        {
            ErrorPolicy.Ignore => ErrorAction.Ignore,
            ErrorPolicy.Stop => ErrorAction.Stop,
            ErrorPolicy.Enospc when IsNoSpace(errno) => ErrorAction.Stop,
            _ => ErrorAction.Report,
        };
        if (action == ErrorAction.Stop && !mayKeep) action = ErrorAction.Report;
        bool isKept = action == ErrorAction.Stop;
        if (isKept)
            lock (_kept) _kept.Enqueue((queue, request, errno));
        failed(request.Operation, action, errno);
        if (action == ErrorAction.Ignore) errno = 0;
        return isKept;
    }

    (BlockQueue Queue, BlockRequest Request, int Errno)[] TakeAll()
    {
        lock (_kept)
        {
            (BlockQueue, BlockRequest, int)[] all = [.. _kept];
            _kept.Clear();
            return all;
        }
    }
}
