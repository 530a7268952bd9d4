using Qkvm.Core.Machine;

namespace Qkvm.Control.Dump;

/// <summary>The dumps of a machine, one at a time. Main loop, under the machine lock.</summary>
public sealed class GuestDump
{
    long _completed, _total;
    DumpStatus _status = DumpStatus.None;

    /// <summary>Of the last one. <see cref="DumpProgress.Completed"/> grows while another thread writes.</summary>
    public DumpProgress Progress => new(_total, _status, Interlocked.Read(ref _completed));

    /// <exception cref="CommandException">One is under way.</exception>
    public void CheckIdle()
    {
        if (_status == DumpStatus.Active) throw new CommandException("There is a dump in process, please wait.");
    }

    /// <summary>Writes one on the thread pool, then closes the file, tells DUMP_COMPLETED and lets the machine go on if
    /// it ran before: that on the main loop again.</summary>
    /// <param name="write">Is given what hears of each piece, in bytes.</param>
    /// <returns>What went wrong, or null. Never faults.</returns>
    internal Task<string?> RunAsync(IMachine machine, ulong total, Stream output, bool resumes,
        Func<Action<int>, Task> write)
    {
        (_total, _completed, _status) = ((long)total, 0, DumpStatus.Active);
        var ended = new TaskCompletionSource<string?>(TaskCreationOptions.RunContinuationsAsynchronously);
        Task.Run(async () =>
        {
            string? error = null;
            try
            {
                await using (output.ConfigureAwait(false))
                    await write(bytes => Interlocked.Add(ref _completed, bytes)).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                error = $"dump: failed to save memory: {e.Message}";
            }
            machine.Board.Post(() =>
            {
                _status = error == null ? DumpStatus.Completed : DumpStatus.Failed;
                machine.Events.Raise(new DumpCompletedEvent(Progress, error));
                if (resumes && machine.State == RunState.SaveVm) machine.Resume();
                ended.SetResult(error);
            });
        });
        return ended.Task;
    }
}
