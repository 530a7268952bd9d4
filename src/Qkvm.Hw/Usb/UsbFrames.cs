using Qkvm.Core.State;
using Qkvm.Core.Time;

namespace Qkvm.Hw.Usb;

/// <summary>Frames of a controller that looks for work in guest memory, one each millisecond.</summary>
/// <remarks>Guests ring no bell, so that somebody has to look: in each frame, and for two milliseconds after something
/// has happened in each microframe, where the controller has those. Where nothing has happened for a while, and no
/// device has said that it has something, sixteen frames are run together: their work is the same, sixteen times as
/// rarely.</remarks>
/// <param name="run">Carries out the frame of <see cref="Number"/>: whether something happened.</param>
/// <param name="again">Looks at the current frame once more: a device has ended a transfer.</param>
/// <param name="bits">Of a frame's number.</param>
/// <param name="microframes">Of a frame.</param>
sealed class UsbFrames
{
    public const long Frame = 1_000_000;                           // ns

    const int QuietFrames = 64, SlowFrames = 16, MostAtOnce = 128, EagerFrames = 2;

    readonly IVirtualClock _clock;
    readonly IVmTimer _timer;
    readonly Func<bool> _run, _again;
    readonly int _mask, _microframes;
    bool _isRunning, _looksAgain;
    long _next;                                                    // when the current frame ends
    int _quiet;                                                    // frames without anything
    int _eager;                                                    // not migrated: microframes to look at yet
    ushort _number;

    public UsbFrames(IVirtualClock clock, Func<bool> run, Func<bool> again, int bits = 11, int microframes = 1)
    {
        (_clock, _run, _again, _mask, _microframes) = (clock, run, again, (1 << bits) - 1, microframes);
        _timer = clock.CreateTimer(OnTimer);
    }

    public bool IsRunning => _isRunning;

    /// <summary>Of the frame that was carried out last.</summary>
    public int Number { get => _number; set => _number = (ushort)(value & _mask); }

    /// <summary>The same, with those that have passed since.</summary>
    public int Current => Number + Passed & _mask;

    int Passed => _isRunning && _clock.Nanoseconds >= _next
        ? (int)Math.Min((_clock.Nanoseconds - _next) / Frame + 1, int.MaxValue) : 0;

    /// <summary>Nanoseconds since the current frame began, less than a frame's.</summary>
    public long Within => _isRunning ? (_clock.Nanoseconds - _next + Frame) % Frame : 0;

    public void Start()
    {
        if (_isRunning) return;
        _isRunning = true;
        _quiet = 0;
        _next = _clock.Nanoseconds + Frame;
        _timer.ArmAt(_next);
    }

    public void Stop()
    {
        Number = Current;
        _isRunning = _looksAgain = false;
        _eager = 0;
        _timer.Cancel();
    }

    /// <summary>A device has something: the next frame shall not be late.</summary>
    public void Hurry()
    {
        _quiet = 0;
        if (_isRunning) _timer.ArmAt(_next);
    }

    /// <summary>A transfer has ended: what comes behind it need not wait for the next frame.</summary>
    public void LookAgain()
    {
        if (!_isRunning) return;
        _quiet = 0;
        _looksAgain = true;
        _timer.ArmAt(_clock.Nanoseconds);
    }

    public void Exchange(StateStream state)
    {
        state.Field("running", ref _isRunning);
        state.Field("next", ref _next);
        state.Field("quiet", ref _quiet, 0, QuietFrames);
        state.Field("number", ref _number);
        Number = _number;
        if (_next < 0) throw state.Refuse("next", "before time began");
        if (!state.IsLoading) return;
        _looksAgain = false;
        Arm();
    }

    public void Reset()
    {
        Stop();
        (_next, _quiet, _number) = (0, 0, 0);
    }

    void OnTimer()
    {
        long now = _clock.Nanoseconds;
        bool looks = (_looksAgain || _eager > 0) && now < _next;
        _looksAgain = false;
        if (looks)
        {
            if (_again()) BeEager();
            else _eager = Math.Max(_eager - 1, 0);
        }
        int due = Passed;
        if (due > MostAtOnce)
        {
            Number += due - MostAtOnce;                            // the host was late
            _next += (due - MostAtOnce) * Frame;
        }
        while (_isRunning && _next <= now)
        {
            _next += Frame;
            Number++;
            bool happened = _run();
            _quiet = happened ? 0 : Math.Min(_quiet + 1, QuietFrames);
            if (happened) BeEager();
        }
        Arm();
    }

    void BeEager() => _eager = _microframes > 1 ? EagerFrames * _microframes : 0;

    void Arm()
    {
        if (!_isRunning) _timer.Cancel();
        else if (_looksAgain) _timer.ArmAt(_clock.Nanoseconds);
        else if (_eager > 0) _timer.ArmAt(Math.Min(_next, _clock.Nanoseconds + Frame / _microframes));
        else _timer.ArmAt(_quiet < QuietFrames ? _next : _next + (SlowFrames - 1) * Frame);
    }
}
