using Qkvm.Accel.Kvm;
using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Doctor;

/// <summary>What checks look at: the files of a host, and what its kernel lets be tried.</summary>
/// <param name="Root">Of its files: "/", but in tests.</param>
sealed record HostView(string Root = "/")
{
    /// <summary>Null where a machine can be made by KVM, else why not, with what helps.</summary>
    public Func<string?> TryKvm { get; init; } = static () =>
    {
        try
        {
            using var kvm = new KvmAccelerator();
            return null;
        }
        catch (ConfigurationException e) { return e.Message; }
    };

    /// <summary>The kernel has io_uring, for this user.</summary>
    public Func<bool> HasIoRing { get; init; } = static () =>
    {
        using IoRing? ring = IoRing.Create();
        return ring != null;
    };

    /// <summary>Null where a file can be opened to read and to write, else the kernel's reason.</summary>
    public Func<string, string?> TryOpen { get; init; } = static path =>
    {
        try
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0);
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return e.Message; }
    };

    public bool IsRoot { get; init; } = Environment.IsPrivilegedProcess;

    /// <summary>Where programs are looked for.</summary>
    public string[] ProgramDirectories { get; init; } =
        [.. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries),
            "/usr/sbin", "/sbin"];

    public string At(string path) => Path.Join(Root, path);

    public bool Exists(string path) => Path.Exists(At(path));

    /// <summary>Without space around it; null where it cannot be read.</summary>
    public string? Read(string path)
    {
        try { return File.ReadAllText(At(path)).Trim(); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return null; }
    }

    /// <summary>The first of a program's places; null: it is not there.</summary>
    public string? Find(params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            string[] places = name.StartsWith('/') ? [name]
                : [.. ProgramDirectories.Select(directory => Path.Join(directory, name))];
            if (Array.Find(places, Exists) is { } found) return found;
        }
        return null;
    }

    /// <summary>A number of a file with lines "Name: number …"; null: there is none.</summary>
    public long? Number(string path, string name)
    {
        string? line = Read(path)?.Split('\n').FirstOrDefault(l => l.StartsWith(name, StringComparison.Ordinal));
        string[] words = line?[name.Length..].Split([' ', ':', '\t'], StringSplitOptions.RemoveEmptyEntries) ?? [];
        return words.Length > 0 && long.TryParse(words[0], out long value) ? value : null;
    }
}
