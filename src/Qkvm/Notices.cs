namespace Qkvm;

/// <summary>What the program tells its user on stderr: errors, and warnings, which wait until it is known whether the
/// machine starts,
/// so that an error is not the last of many lines.</summary>
sealed class Notices(TextWriter output)
{
    List<string>? _waiting = [];

    /// <summary>-msg timestamp=on.</summary>
    public bool HasTimestamps { get; set; }

    /// <summary>-msg guest-name=on: the guest's name in front of each line; empty for none.</summary>
    public string GuestName { get; set; } = "";

    public void Warn(string line)
    {
        if (_waiting != null) _waiting.Add(line);
        else Write($"warning: {line}");
    }

    public void Error(string line)
    {
        Write(line);
        Release();
    }

    /// <summary>The machine starts: what waited is said, and nothing waits any more.</summary>
    public void Release()
    {
        List<string> lines = _waiting ?? [];
        _waiting = null;
        foreach (string line in lines) Warn(line);
    }

    void Write(string line)
    {
        string time = HasTimestamps ? $"{DateTime.UtcNow:yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'} " : "";
        output.WriteLine($"{time}{(GuestName.Length > 0 ? GuestName + " " : "")}qkvm: {line}");
    }
}
