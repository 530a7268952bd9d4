using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Qkvm.Img;

/// <summary>How far a subcommand is: a line that is written over with -p, a line of JSON each with --progress-json, and
/// one line where SIGUSR1 asks for it.</summary>
/// <remarks>On a terminal the line also has the rate and the time that is left.</remarks>
sealed class Progress : IDisposable
{
    public static readonly Option Json = new('\0', "progress-json");

    const int UserSignal = 10;                                     // SIGUSR1, signal(7)
    const double Percent = 100, SmallestStep = 0.01;

    readonly TextWriter _output;
    readonly bool _isShown, _isJson, _isTerminal;
    readonly long _total;
    readonly Stopwatch _clock = Stopwatch.StartNew();
    readonly PosixSignalRegistration? _signal;
    readonly Lock _lock = new();
    double _part;
    double _written = -1;
    int _width;

    /// <param name="total">Bytes in all, for the rate; 0 where there is none.</param>
    public Progress(Tool tool, Arguments arguments, long total = 0)
    {
        (_output, _total) = (tool.Output, total);
        _isJson = arguments.Has(Json);
        _isShown = (_isJson || arguments.Has(Option.Progress)) && !arguments.Has(Option.Quiet);
        _isTerminal = _isShown && !_isJson && !Console.IsOutputRedirected;
        if (!_isShown)
            _signal = PosixSignalRegistration.Create((PosixSignal)UserSignal, context =>
            {
                context.Cancel = true;
                lock (_lock) Write("\n");
            });
    }

    /// <param name="part">0 to 1.</param>
    public void Report(double part)
    {
        lock (_lock)
        {
            _part = Math.Clamp(part, 0, 1);
            if (_isShown && (_written < 0 || _part * Percent - _written >= SmallestStep)) Write("\r");
        }
    }

    public void End()
    {
        lock (_lock)
        {
            if (!_isShown) return;
            _part = 1;
            Write("\r");
            if (!_isJson) _output.Write('\n');
            _output.Flush();
        }
    }

    public void Dispose() => _signal?.Dispose();

    void Write(string end)
    {
        _written = _part * Percent;
        string percent = _written.ToString("F2", CultureInfo.InvariantCulture);
        if (_isJson)
            _output.Write($"{{\"percent\": {percent}, \"done\": {(long)(_part * _total)}, \"total\": {_total}, " +
                $"\"seconds\": {_clock.Elapsed.TotalSeconds.ToString("F3", CultureInfo.InvariantCulture)}}}\n");
        else
        {
            string line = $"    ({percent}/100%){(_isTerminal ? Rate() : "")}";
            _output.Write($"{line.PadRight(_width)}{end}");
            _width = _isTerminal ? line.Length : 0;
        }
        _output.Flush();
    }

    string Rate()
    {
        double seconds = _clock.Elapsed.TotalSeconds;
        if (_part <= 0 || seconds < 0.5) return "";
        var left = TimeSpan.FromSeconds(Math.Min(seconds / _part - seconds, int.MaxValue));
        string rate = _total > 0 ? $"  {ByteCount.Text((long)(_part * _total / seconds))}/s" : "";
        return $"{rate}  {(long)left.TotalHours:00}:{left.Minutes:00}:{left.Seconds:00} left";
    }
}
