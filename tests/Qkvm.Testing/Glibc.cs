using System.Diagnostics;

namespace Qkvm.Testing;

/// <summary>The versions of glibc's functions in ELF files, as readelf (binutils) lists them.</summary>
public static class Glibc
{
    /// <summary>The one that the executable is to start on: GlibcVersion in Qkvm.csproj.</summary>
    public static readonly Version Oldest = new(2, 17);

    /// <summary>The symbols that a file needs of glibc, or that glibc itself has, each with the version it is bound to;
    /// a symbol that changed has several.</summary>
    /// <param name="defined">Those that the file has; otherwise those that it needs.</param>
    public static List<(string Name, Version Version)> Symbols(string path, bool defined)
    {
        const int Section = 6, Name = 7;                           // Num: Value Size Type Bind Vis Ndx Name
        const string Prefix = "GLIBC_";
        using Process readelf =
            Process.Start(new ProcessStartInfo("readelf",
            ["--wide", "--dyn-syms", path]) { RedirectStandardOutput = true })!;
        var found = new List<(string, Version)>();
        while (readelf.StandardOutput.ReadLine() is { } line)
        {
            string[] columns = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (columns.Length <= Name || columns[Section] == "UND" == defined) continue;
            string[] named = columns[Name].Split('@', StringSplitOptions.RemoveEmptyEntries);
            if (named.Length == 2 && named[1].StartsWith(Prefix, StringComparison.Ordinal)
                && Version.TryParse(named[1][Prefix.Length..], out Version? version))
                found.Add((named[0], version));
        }
        return found;
    }
}
