namespace Qkvm.Tests;

/// <summary>Code is read side by side.</summary>
public class WidthTests
{
    const int Columns = 120;
    static readonly string[] Folders = ["src", "tests", "firmware", "images", "scripts", "findings"];
    static readonly string[] Kinds = ["*.cs", "*.sh", "*.asm", "*.inc", "*.c", "*.py"];

    [Fact]
    public void No_line_has_more_than_120_columns()
    {
        string[] files = [.. from folder in Folders
                             where Directory.Exists(Path.Combine(Sources.Root, folder))
                             from kind in Kinds
                             from file in Sources.Files(folder, kind)
                             select file];
        Assert.True(files.Length > 400, $"only {files.Length} files in {Sources.Root}");
        IEnumerable<string> wide =
            from file in files
            from line in File.ReadLines(file).Select((text, index) => (Text: text, Number: index + 1))
            where line.Text.EnumerateRunes().Count() > Columns
            select $"{Path.GetRelativePath(Sources.Root, file)}:{line.Number}";
        Assert.Empty(wide);
    }
}
