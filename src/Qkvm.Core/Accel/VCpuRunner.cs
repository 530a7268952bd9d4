using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Core.Accel;

/// <summary>Runs the vCPUs, each on a thread of its own, and stops them together.</summary>
/// <remarks>A vCPU is inside <see cref="IVCpu.Run"/> or parked. Resume lets all run; Pause kicks them and waits until
/// all are parked. One that leaves Run for another reason than a kick is reported and parks until the next
/// Resume.</remarks>
public sealed class VCpuRunner : IDisposable
{
    readonly IReadOnlyList<IVCpu> _cpus;
    readonly MachineLock _machineLock;
    readonly Action<IVCpu, VCpuExit> _onExit;
    readonly Thread[] _threads;
    readonly int[] _threadIds;
    // guards what follows; never held while taking the machine lock
    readonly object _gate = new();
    bool _run;
    Func<IVCpu, bool>? _chosen;                                    // who runs; null: all
    bool _quit;
    long _generation;                                              // counts Resumes
    int _active;

    /// <summary>The vCPU whose thread this is, or -1.</summary>
    public static int Current => s_onePastCurrent - 1;

    [ThreadStatic] static int s_onePastCurrent;

    /// <param name="onExit">On the vCPU's thread, after it parked, without any lock.</param>
    public VCpuRunner(IReadOnlyList<IVCpu> cpus, MachineLock machineLock, Action<IVCpu, VCpuExit> onExit)
    {
        _cpus = cpus;
        _machineLock = machineLock;
        _onExit = onExit;
        _threads = new Thread[cpus.Count];
        _threadIds = new int[cpus.Count];
        for (int i = 0; i < _threads.Length; i++)
        {
            int index = i;
            IVCpu cpu = cpus[i];
            _threads[i] = new Thread(() => Loop(cpu, index), maxStackSize: 4 << 20) { Name = $"CPU {i}/{cpu.Index}",
                IsBackground = true };
            _threads[i].Start();
        }
        lock (_gate)
            while (Array.IndexOf(_threadIds, 0) >= 0) Monitor.Wait(_gate);
    }

    /// <summary>The host's number of the thread that runs this vCPU.</summary>
    public int ThreadOf(int index) => _threadIds[index];

    public bool IsRunning
    {
        get { lock (_gate) return _run; }
    }

    /// <param name="chosen">Those that run; the others stand. Null: all run.</param>
    public void Resume(Func<IVCpu, bool>? chosen = null)
    {
        lock (_gate)
        {
            if (_run || _quit) return;
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
        foreach (IVCpu cpu in _cpus) cpu.Kick();
        _machineLock.RunReleased(() =>
        {
            lock (_gate)
                while (_active > 0) Monitor.Wait(_gate);
        });
    }

    public void Dispose()
    {
        Pause();
        lock (_gate)
        {
            _quit = true;
            Monitor.PulseAll(_gate);
        }
        _machineLock.RunReleased(() => { foreach (Thread thread in _threads) thread.Join(); });
    }

    void Loop(IVCpu cpu, int index)
    {
        long seen = 0;
        s_onePastCurrent = index + 1;
        lock (_gate)
        {
            _threadIds[index] = Libc.gettid();
            Monitor.PulseAll(_gate);
        }
        while (true)
        {
            lock (_gate)
            {
                while (!_quit && !(_run && seen != _generation)) Monitor.Wait(_gate);
                if (_quit) return;
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
