using System.Text.RegularExpressions;

namespace Qkvm.Tests;

/// <summary>Unsafe code has two homes.</summary>
public partial class SafetyTests
{
    static readonly string[] Zones = ["Qkvm.Host", "Qkvm.Accel"];
    static readonly string[] Unsafe = ["Unsafe.", "MemoryMarshal.", "AllowUnsafeBlocks"];

    [Fact]
    public void Unsafe_code_is_in_Host_and_Accel_alone()
    {
        string source = Path.Combine(Sources.Root, "src");
        string[] files =
            [.. Sources.Files("src").Concat(Sources.Files("src", "*.csproj")).Concat(Sources.Files("src", "*.props"))];
        Assert.True(files.Length > 100, $"only {files.Length} files in {source}");
        IEnumerable<string> found =
            from file in files
            let path = Path.GetRelativePath(source, file)
            where !Zones.Contains(path.Split(Path.DirectorySeparatorChar)[0])
            from line in File.ReadLines(file)
            where Unsafe.Any(word => line.Contains(word, StringComparison.Ordinal))
            select $"{path}: {line.Trim()}";
        Assert.Empty(found);
    }

    /// <summary>Each file says in a line what keeps its pointers valid.</summary>
    [Fact]
    public void Unsafe_code_says_why_it_is_safe()
    {
        string[] files = [.. Zones.SelectMany(zone => Sources.Files(Path.Combine("src", zone)))
            .Where(file => UnsafeWord().IsMatch(File.ReadAllText(file)))];
        Assert.True(files.Length > 100, $"only {files.Length} files");
        Assert.Empty(files.Where(file => !File.ReadAllText(file).Contains("SAFETY:", StringComparison.Ordinal))
            .Select(Path.GetFileName));
    }

    [GeneratedRegex(@"\bunsafe (partial |static |sealed |class|struct|void|[a-z]+ [A-Z])")]
    private static partial Regex UnsafeWord();
}
