using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Core.Accel;

/// <summary>Runs the vCPUs, each on a thread of its own, and stops them together.</summary>
/// <remarks>A vCPU is inside <see cref="IVCpu.Run"/> or parked. Resume lets all run; Pause kicks them and waits until
/// all are parked. One that leaves Run for another reason than a kick is reported and parks until the next
/// Resume.</remarks>
public sealed class VCpuRunner : IDisposable
{
    readonly MachineLock _machineLock;
    readonly Action<IVCpu, VCpuExit> _onExit;
    readonly List<Seat> _seats = [];
    // guards what follows; never held while taking the machine lock
    readonly object _gate = new();
    bool _run;
    Func<IVCpu, bool>? _chosen;                                    // who runs; null: all
    long _generation;                                              // counts Resumes
    int _active;

    /// <summary>A vCPU and its thread.</summary>
    sealed class Seat(IVCpu cpu)
    {
        public readonly IVCpu Cpu = cpu;
        public Thread? Thread;
        public int ThreadId;
        public bool Leaves;
    }

    /// <summary>The vCPU whose thread this is, or -1.</summary>
    public static int Current => s_onePastCurrent - 1;

    [ThreadStatic] static int s_onePastCurrent;

    /// <param name="onExit">On the vCPU's thread, after it parked, without any lock.</param>
    public VCpuRunner(IReadOnlyList<IVCpu> cpus, MachineLock machineLock, Action<IVCpu, VCpuExit> onExit)
    {
        _machineLock = machineLock;
        _onExit = onExit;
        foreach (IVCpu cpu in cpus) Add(cpu);
    }

    /// <summary>One more vCPU, which runs from the next Resume on. While all are parked.</summary>
    public void Add(IVCpu cpu)
    {
        var seat = new Seat(cpu);
        seat.Thread = new Thread(() => Loop(seat), maxStackSize: 4 << 20)
            { Name = $"CPU {cpu.Index}", IsBackground = true };
        seat.Thread.Start();
        lock (_gate)
            while (seat.ThreadId == 0) Monitor.Wait(_gate);
        _seats.Add(seat);
    }

    /// <summary>A vCPU goes, and its thread ends. While all are parked.</summary>
    public void Remove(IVCpu cpu)
    {
        if (_seats.Find(seat => seat.Cpu == cpu) is not { } seat) return;
        _seats.Remove(seat);
        Leave([seat]);
    }

    /// <summary>The host's number of the thread that runs this vCPU; 0 where none does.</summary>
    public int ThreadOf(int index) => _seats.Find(seat => seat.Cpu.Index == index)?.ThreadId ?? 0;

    public bool IsRunning
    {
        get { lock (_gate) return _run; }
    }

    /// <param name="chosen">Those that run; the others stand. Null: all run.</param>
    public void Resume(Func<IVCpu, bool>? chosen = null)
    {
        lock (_gate)
        {
            if (_run) return;
            (_run, _chosen) = (true, chosen);
            _generation++;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Returns with all vCPUs parked. Not from a vCPU's thread. Lets go of the machine lock
    /// meanwhile.</summary>
    public void Pause()
    {
        lock (_gate) _run = false;
        foreach (Seat seat in _seats) seat.Cpu.Kick();
        _machineLock.RunReleased(() =>
        {
            lock (_gate)
                while (_active > 0) Monitor.Wait(_gate);
        });
    }

    public void Dispose()
    {
        Pause();
        Leave(_seats);
        _seats.Clear();
    }

    void Leave(IReadOnlyList<Seat> seats)
    {
        lock (_gate)
        {
            foreach (Seat seat in seats) seat.Leaves = true;
            Monitor.PulseAll(_gate);
        }
        _machineLock.RunReleased(() => { foreach (Seat seat in seats) seat.Thread!.Join(); });
    }

    void Loop(Seat seat)
    {
        IVCpu cpu = seat.Cpu;
        long seen;
        s_onePastCurrent = cpu.Index + 1;
        lock (_gate)
        {
            seen = _generation;
            seat.ThreadId = Libc.gettid();
            Monitor.PulseAll(_gate);
        }
        while (true)
        {
            lock (_gate)
            {
                while (!seat.Leaves && !(_run && seen != _generation)) Monitor.Wait(_gate);
                if (seat.Leaves) return;
                seen = _generation;
                if (_chosen != null && !_chosen(cpu)) continue;
                _active++;
            }
            VCpuExit exit;
            do exit = cpu.Run();
            while (exit.Reason == ExitReason.Kicked && Volatile.Read(ref _run));
            lock (_gate)
            {
                _active--;
                Monitor.PulseAll(_gate);
            }
            if (exit.Reason != ExitReason.Kicked) _onExit(cpu, exit);
        }
    }
}
