using Qkvm.Core.Block;

namespace Qkvm.Hw.Nvme;

/// <summary>Admin commands. NVMe 1.4, chapter 5.</summary>
public sealed partial class Nvme
{
    readonly NvmePages _pages = new();

    void Obey(NvmeSubmissionQueue admin, NvmeCommand command)
    {
        uint result = 0;
        bool isLater = false;
        ushort status = (command.Flags & 0xC3) != 0 ? NvmeStatus.InvalidField : command.Opcode switch
        {
            NvmeOpcode.DeleteSubmissionQueue => DeleteSubmission(command, out isLater),
            NvmeOpcode.CreateSubmissionQueue => CreateSubmission(command),
            NvmeOpcode.DeleteCompletionQueue => DeleteCompletion(command),
            NvmeOpcode.CreateCompletionQueue => CreateCompletion(command),
            NvmeOpcode.Identify => Identify(command),
            NvmeOpcode.GetLogPage => GetLogPage(command),
            NvmeOpcode.SetFeatures => SetFeature(command, out result),
            NvmeOpcode.GetFeatures => GetFeature(command, out result),
            NvmeOpcode.AsyncEventRequest => RequestEvent(command, out isLater),
            NvmeOpcode.Abort => Abort(out result),
            _ => NvmeStatus.InvalidOpcode,
        };
        if (isLater) return;
        Complete(admin, command.Id, status == 0 ? status : (ushort)(status | NvmeStatus.DoNotRetry), result);
        if (command.Opcode == NvmeOpcode.GetLogPage) SendEvents();
    }

    /// <summary>Whatever it is, it is being carried out, or done.</summary>
    static ushort Abort(out uint result)
    {
        result = 1;                                                // not aborted
        return NvmeStatus.Success;
    }

    ushort CreateCompletion(NvmeCommand command)
    {
        const uint contiguous = 1, interrupts = 2;
        int id = (int)(command[10] & 0xFFFF), size = (int)(command[10] >> 16) + 1, vector = (int)(command[11] >> 16);
        if (id == 0 || id >= _completion.Length || _completion[id] != null) return NvmeStatus.InvalidQueue;
        if (size is < 2 or > MostEntries) return NvmeStatus.InvalidQueueSize;
        if ((command.Prp1 & (ulong)(PageSize - 1)) != 0) return NvmeStatus.InvalidPrpOffset;
        if (vector >= (MsiX!.IsEnabled ? MsiX.Vectors : 1)) return NvmeStatus.InvalidVector;
        if ((command[11] & contiguous) == 0) return NvmeStatus.InvalidField;
        _completion[id] = new NvmeCompletionQueue(id, command.Prp1, size, vector, (command[11] & interrupts) != 0);
        return NvmeStatus.Success;
    }

    ushort DeleteCompletion(NvmeCommand command)
    {
        int id = (int)(command[10] & 0xFFFF);
        if (id == 0 || id >= _completion.Length || _completion[id] is not { } queue) return NvmeStatus.InvalidQueue;
        if (queue.Users > 0) return NvmeStatus.InvalidQueueDeletion;
        bool wasEmpty = queue.IsEmpty;
        queue.Head = queue.Tail;
        Track(queue, wasEmpty);
        _completion[id] = null;
        UpdatePin();
        return NvmeStatus.Success;
    }

    ushort CreateSubmission(NvmeCommand command)
    {
        const uint contiguous = 1;
        int id = (int)(command[10] & 0xFFFF), size = (int)(command[10] >> 16) + 1, other = (int)(command[11] >> 16);
        if (other == 0 || other >= _completion.Length || _completion[other] is not { } completion)
            return NvmeStatus.InvalidCompletionQueue;
        if (id == 0 || id >= _submission.Length || _submission[id] != null) return NvmeStatus.InvalidQueue;
        if (size is < 2 or > MostEntries) return NvmeStatus.InvalidQueueSize;
        if ((command.Prp1 & (ulong)(PageSize - 1)) != 0) return NvmeStatus.InvalidPrpOffset;
        if ((command[11] & contiguous) == 0) return NvmeStatus.InvalidField;
        completion.Users++;
        _submission[id] = new NvmeSubmissionQueue(id, command.Prp1, size, completion);
        return NvmeStatus.Success;
    }

    /// <summary>Its commands end without completions; the deletion waits for them.</summary>
    ushort DeleteSubmission(NvmeCommand command, out bool isLater)
    {
        isLater = false;
        int id = (int)(command[10] & 0xFFFF);
        if (id == 0 || id >= _submission.Length || _submission[id] is not { DeletedBy: null } queue)
            return NvmeStatus.InvalidQueue;
        NvmeCompletion[] others = [.. queue.Completion.Waiting.Where(waiting => waiting.Source != queue)];
        queue.Taken -= queue.Completion.Waiting.Count - others.Length;
        queue.Completion.Waiting.Clear();
        foreach (NvmeCompletion other in others) queue.Completion.Waiting.Enqueue(other);
        isLater = true;
        queue.DeletedBy = command.Id;
        if (queue.Taken == 0) FinishDeletion(queue, command.Id);
        return NvmeStatus.Success;
    }

    void FinishDeletion(NvmeSubmissionQueue queue, ushort command)
    {
        queue.Completion.Users--;
        _submission[queue.Id] = null;
        if (_submission[0] is { } admin) Complete(admin, command, NvmeStatus.Success);
    }

    /// <summary>Data of a command to the driver, at most one page.</summary>
    ushort Send(NvmeCommand command, ReadOnlySpan<byte> data)
    {
        if (data.Length == 0) return NvmeStatus.Success;
        ushort status = _pages.Map(Dma, command.Prp1, command.Prp2, data.Length, PageSize, toMemory: true,
            out ScatterList memory);
        if (status != NvmeStatus.Success) return status;
        memory.CopyFrom(data);
        _pages.MarkWritten(Dma);
        _pages.Forget();
        return NvmeStatus.Success;
    }
}
