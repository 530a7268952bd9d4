using System.Runtime.CompilerServices;

namespace Qkvm.Tests;

/// <summary>The project's own source files.</summary>
static class Sources
{
    public static string Root { get; } = Find();

    public static IEnumerable<string> Files(string directory, string pattern = "*.cs") =>
        Directory.EnumerateFiles(Path.Combine(Root, directory), pattern, SearchOption.AllDirectories);

    static string Find([CallerFilePath] string here = "")
    {
        DirectoryInfo? directory = new FileInfo(here).Directory;
        while (directory != null && !File.Exists(Path.Combine(directory.FullName, "Qemu.Net.sln")))
            directory = directory.Parent;
        return directory?.FullName
            ?? throw new DirectoryNotFoundException("Qemu.Net.sln is in no directory above the tests");
    }
}
