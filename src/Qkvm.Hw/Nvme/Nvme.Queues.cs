using System.Buffers.Binary;

namespace Qkvm.Hw.Nvme;

/// <summary>Doorbells, commands in and completions out. NVMe 1.4, sections 3.1.24, 4.1 and 7.2.</summary>
public sealed partial class Nvme
{
    const byte InvalidDoorbell = 0, InvalidDoorbellValue = 1;      // error events, figure 144

    bool IsRunning => (_status & (Ready | FatalStatus)) == Ready && (_configuration & Enable) != 0;

    void Ring(int index, uint value)
    {
        if (!IsRunning) return;
        int id = index / 2;
        bool isCompletion = (index & 1) != 0;
        int size = id >= _submission.Length ? 0
            : isCompletion ? _completion[id]?.Size ?? 0 : _submission[id]?.Size ?? 0;
        if (size == 0) Tell(ErrorEvent, InvalidDoorbell, ErrorLog);
        else if (value >= size) Tell(ErrorEvent, InvalidDoorbellValue, ErrorLog);
        else if (isCompletion) Looked(_completion[id]!, (int)value);
        else
        {
            _submission[id]!.Tail = (int)value;
            LineUp(_submission[id]!);
            Serve();
        }
    }

    /// <summary>The driver has looked at completions: what waits for their room comes.</summary>
    void Looked(NvmeCompletionQueue queue, int head)
    {
        bool wasEmpty = queue.IsEmpty;
        queue.Head = head;
        Track(queue, wasEmpty);
        while (!queue.IsFull && IsRunning && queue.Waiting.TryDequeue(out NvmeCompletion next)) Write(queue, next);
        UpdatePin();
        Serve();
    }

    void LineUp(NvmeSubmissionQueue queue)
    {
        if (queue.IsInLine || queue.Head == queue.Tail || queue.Taken >= queue.Size || queue.DeletedBy != null) return;
        queue.IsInLine = true;
        _line.Enqueue(queue);
    }

    /// <summary>Takes commands, of each queue in turn, as far as there is room for them in flight; after a while
    /// others have their turn on the main loop.</summary>
    void Serve()
    {
        if (_isServing) return;
        _isServing = true;
        int budget = Burst;
        for (; budget > 0 && _inFlight < MostInFlight && IsRunning && _line.TryDequeue(out NvmeSubmissionQueue? queue);
            budget--)
        {
            queue.IsInLine = false;
            if (_submission[queue.Id] != queue || queue.DeletedBy != null) continue;
            Take(queue);
            LineUp(queue);
        }
        _isServing = false;
        if (budget > 0 || _line.Count == 0 || _isPosted) return;
        _isPosted = true;
        _post(_serveLater);
    }

    void ServeLater()
    {
        _isPosted = false;
        Serve();
    }

    void Take(NvmeSubmissionQueue queue)
    {
        Span<byte> entry = stackalloc byte[NvmeCommand.Length];
        if (!Dma.Read(queue.Address + (ulong)(queue.Head * NvmeCommand.Length), entry))
        {
            Fail($"submission queue {queue.Id} is not in memory");
            return;
        }
        queue.Head = (queue.Head + 1) % queue.Size;
        queue.Taken++;
        var command = new NvmeCommand(entry);
        if (queue.Id == 0) Obey(queue, command);
        else
        {
            _inFlight++;
            NvmeRequest request = _free.Count > 0 ? _free.Pop() : new NvmeRequest(this);
            request.Begin(queue, command);
        }
    }

    /// <summary>A command of an I/O queue is done.</summary>
    internal void Ended(NvmeRequest request, NvmeSubmissionQueue queue, ushort command, ushort status)
    {
        _inFlight--;
        _free.Push(request);
        if (_isStopping)
        {
            if (_inFlight > 0) return;
            (_isStopping, _status) = (false, _status & ~(Ready | FatalStatus));
            if ((_configuration & Enable) != 0) Start();           // enabled again meanwhile
            return;
        }
        if (_submission[queue.Id] == queue) Complete(queue, command, status);
        Serve();
    }

    void Complete(NvmeSubmissionQueue queue, ushort command, ushort status, uint result = 0)
    {
        var completion = new NvmeCompletion(queue, command, status, result);
        if (queue.DeletedBy != null) Returned(queue);
        else if (queue.Completion.IsFull || queue.Completion.Waiting.Count > 0)
            queue.Completion.Waiting.Enqueue(completion);
        else Write(queue.Completion, completion);
    }

    /// <summary>Figure 121: the result, the source's head and number, the command's, phase and status.</summary>
    void Write(NvmeCompletionQueue queue, NvmeCompletion completion)
    {
        Span<byte> entry = stackalloc byte[NvmeCompletionQueue.EntryLength];
        entry.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(entry, completion.Result);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[8..], (ushort)completion.Source.Head);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[10..], (ushort)completion.Source.Id);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[12..], completion.Command);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[14..],
            (ushort)(completion.Status << 1 | (queue.Phase ? 1 : 0)));
        ulong at = queue.Address + (ulong)(queue.Tail * NvmeCompletionQueue.EntryLength);
        // the word with the phase last: a driver may look any time
        if (!Dma.Write(at, entry[..12]) || !Dma.Write(at + 12, 4, BinaryPrimitives.ReadUInt32LittleEndian(entry[12..])))
        {
            Fail($"completion queue {queue.Id} is not in memory");
            return;
        }
        bool wasEmpty = queue.IsEmpty;
        queue.Tail = (queue.Tail + 1) % queue.Size;
        if (queue.Tail == 0) queue.Phase = !queue.Phase;
        Track(queue, wasEmpty);
        Returned(completion.Source);
        if (!queue.Interrupts) return;
        if (MsiX!.IsEnabled) MsiX.Notify(queue.Vector);
        else UpdatePin();
    }

    /// <summary>One command less of a queue, which may be waited for.</summary>
    void Returned(NvmeSubmissionQueue queue)
    {
        queue.Taken--;
        if (queue.DeletedBy is { } command)
        {
            if (queue.Taken == 0) FinishDeletion(queue, command);
        }
        else if (_submission[queue.Id] == queue) LineUp(queue);
    }

    void Track(NvmeCompletionQueue queue, bool wasEmpty)
    {
        if (queue.Interrupts && queue.Vector < PinVectors && queue.IsEmpty != wasEmpty)
            _pinned[queue.Vector] += wasEmpty ? 1 : -1;
    }

    void UpdatePin()
    {
        bool level = false;
        for (int i = 0; i < PinVectors; i++) level |= _pinned[i] > 0 && (_mask >> i & 1) == 0;
        IntX.Set(level && MsiX is not { IsEnabled: true });
    }
}
