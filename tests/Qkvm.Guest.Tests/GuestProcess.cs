using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests;

/// <summary>A program that runs: what it printed, what it is told, how it ended. Disposing kills it.</summary>
sealed partial class GuestProcess : IDisposable
{
    readonly Process _process;
    readonly StringBuilder _output = new(), _errors = new();
    readonly object _gate = new();                                 // guards both; pulsed when something came
    readonly Task _reading;
    bool _ended;

    GuestProcess(string program, string[] arguments)
    {
        _process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetTempPath(),
        })!;
        _reading = Task.WhenAll(Collect(_process.StandardOutput, _output), Collect(_process.StandardError, _errors))
            .ContinueWith(_ =>
        {
            lock (_gate)
            {
                _ended = true;
                Monitor.PulseAll(_gate);
            }
        });
    }

    /// <summary>Starts the program under test.</summary>
    public static GuestProcess Start(params string[] arguments) => new(Surroundings.Program, arguments);

    /// <summary>Starts any other program.</summary>
    public static GuestProcess StartOther(string program, params string[] arguments) => new(program, arguments);

    public int Id => _process.Id;

    public string Output
    {
        get { lock (_gate) return _output.ToString(); }
    }

    public string Errors
    {
        get { lock (_gate) return _errors.ToString(); }
    }

    /// <summary>Waits until the output contains the text, or contains it that often.</summary>
    /// <returns>The text and what follows to the end of its line, which is waited for too.</returns>
    public string Expect(string text, int occurrence = 1)
    {
        DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
        lock (_gate)
            while (true)
            {
                string output = _output.ToString();
                int start = output.IndexOf(text, StringComparison.Ordinal);
                for (int i = 1; i < occurrence && start >= 0; i++)
                    start = output.IndexOf(text, start + 1, StringComparison.Ordinal);
                int end = start < 0 ? -1 : output.IndexOf('\n', start);
                if (end >= 0) return output[start..end].TrimEnd('\r');
                if (start >= 0 && _ended) return output[start..];
                TimeSpan left = deadline - DateTime.UtcNow;
                if (_ended || left <= TimeSpan.Zero)
                    Assert.Fail($"\"{text}\" did not come{(_ended ? "; the program ended" : "")}. Output:\n" +
                        $"{Tail(output)}\nErrors:\n{Tail(_errors.ToString())}");
                Monitor.Wait(_gate, left);
            }
    }

    /// <summary>Waits until the output matches from there on.</summary>
    public Match Expect(Regex pattern, int from)
    {
        DateTime deadline = DateTime.UtcNow + Surroundings.Patience;
        lock (_gate)
            while (true)
            {
                string output = _output.ToString();
                if (pattern.Match(output, from) is { Success: true } match) return match;
                TimeSpan left = deadline - DateTime.UtcNow;
                if (_ended || left <= TimeSpan.Zero)
                    Assert.Fail($"{pattern} did not come{(_ended ? "; the program ended" : "")}. Output:\n" +
                        $"{Tail(output)}\nErrors:\n{Tail(_errors.ToString())}");
                Monitor.Wait(_gate, left);
            }
    }

    /// <summary>What the guest prints behind a word at the start of a line, once it is there in whole; the line that
    /// asks for it has the word, too.</summary>
    public string Value(string word, string pattern) =>
        Expect(new Regex($@"^{word} ({pattern})(?=\s)", RegexOptions.Multiline), 0).Groups[1].Value;

    public void Send(string text)
    {
        _process.StandardInput.Write(text);
        _process.StandardInput.Flush();
    }

    public void Signal(int number) => Assert.Equal(0, kill(Id, number));

    /// <summary>Waits for the end; the exit code.</summary>
    public int WaitExit()
    {
        bool ended = _process.WaitForExit(Surroundings.Patience) && _reading.Wait(Surroundings.Patience);
        Assert.True(ended, $"the program did not end. Output:\n{Tail(Output)}\nErrors:\n{Tail(Errors)}");
        return _process.ExitCode;
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
    }

    async Task Collect(StreamReader from, StringBuilder into)
    {
        var buffer = new char[4096];
        while (await from.ReadAsync(buffer) is > 0 and int count)
            lock (_gate)
            {
                into.Append(buffer, 0, count);
                Monitor.PulseAll(_gate);
            }
    }

    static string Tail(string text) => text.Length <= 3000 ? text : $"…{text[^3000..]}";

    [LibraryImport("libc")]
    private static partial int kill(int pid, int signal);
}
