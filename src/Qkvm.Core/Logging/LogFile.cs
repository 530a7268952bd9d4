using Qkvm.Host;

namespace Qkvm.Core.Logging;

/// <summary>Where the log goes: -D's file, one for each thread where -d tid asks for it, or what the program was given
/// for its messages. The caller holds the log's lock.</summary>
sealed class LogFile : IDisposable
{
    readonly string? _template;
    readonly TextWriter _standard;
    readonly Dictionary<int, TextWriter>? _perThread;
    readonly bool _ours;
    readonly TextWriter? _one;
    bool _hasFailed;

    public LogFile(TextWriter standard) => _one = _standard = standard;

    /// <param name="template">%d becomes the number of the process, or of each thread.</param>
    /// <param name="standard">Hears of a file that takes no more.</param>
    /// <exception cref="ConfigurationException">As QEMU words it.</exception>
    public LogFile(string template, bool perThread, TextWriter standard)
    {
        int percent = template.IndexOf('%');
        bool isNumbered = percent >= 0;
        if (isNumbered && (!template[percent..].StartsWith("%d", StringComparison.Ordinal)
            || template.IndexOf('%', percent + 1) >= 0))
            throw new ConfigurationException($"Bad logfile template: {template}");
        if (perThread && !isNumbered)
            throw new ConfigurationException("Filename template with '%d' required for 'tid'");
        (_template, _ours, _standard) = (template, true, standard);
        if (perThread) _perThread = new Dictionary<int, TextWriter> { [Environment.ProcessId] =
            Open(Environment.ProcessId) };
        else _one = Open(Environment.ProcessId);
    }

    /// <summary>A disk that is full ends this file's log, and not the guest.</summary>
    public void Write(string text)
    {
        if (_hasFailed) return;
        try { Writer.Write(text); }
        catch (IOException e)
        {
            _hasFailed = true;
            if (!_ours) return;
            try { _standard.Write($"qkvm: warning: the log ends: {e.Message}\n"); }
            catch (IOException) { }                                 // nobody is left to be told
        }
    }

    TextWriter Writer
    {
        get
        {
            if (_one != null) return _one;
            int thread = Libc.gettid();
            if (_perThread!.TryGetValue(thread, out TextWriter? known)) return known;
            try { return _perThread[thread] = Open(thread); }
            catch (ConfigurationException) { return _perThread[thread] = TextWriter.Null; }
        }
    }

    public void Dispose()
    {
        if (!_ours) return;
        Close(_one);
        if (_perThread == null) return;
        foreach (TextWriter writer in _perThread.Values) Close(writer);
    }

    /// <summary>What a full disk did not take is tried once more, and lost.</summary>
    static void Close(TextWriter? writer)
    {
        try { writer?.Dispose(); }
        catch (IOException) { }
    }

    StreamWriter Open(int number)
    {
        string path = _template!.Replace("%d", $"{number}", StringComparison.Ordinal);
        try { return new StreamWriter(path) { AutoFlush = true }; }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            string reason = e switch
            {
                FileNotFoundException or DirectoryNotFoundException => "No such file or directory",
                UnauthorizedAccessException when Directory.Exists(path) => "Is a directory",
                UnauthorizedAccessException => "Permission denied",
                _ => e.Message,
            };
            throw new ConfigurationException($"Error opening logfile {path}: {reason}", e);
        }
    }
}
