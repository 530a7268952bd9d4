using System.Text.RegularExpressions;
using Qkvm.Testing;

[assembly: CollectionBehavior(DisableTestParallelization = true)]  // the working directory is everybody's

namespace Qkvm.Img.Tests;

/// <summary>The command lines of command-lines.txt by this tool and by qemu-img, each in a directory of its own: what
/// they print, how they end and the images that they leave are the same.</summary>
public sealed partial class CommandLineTests : IDisposable
{
    const string Reference = "qemu-img";

    readonly string _theirs = Directory.CreateTempSubdirectory("qkvm-img-theirs-").FullName;
    readonly string _ours = Directory.CreateTempSubdirectory("qkvm-img-ours-").FullName;
    readonly List<string> _complaints = [];

    /// <summary>Paragraphs: a number and its first command line, which names the test.</summary>
    public static TheoryData<int, string> Paragraphs()
    {
        var data = new TheoryData<int, string>();
        string[][] all = Read();
        for (int i = 0; i < all.Length; i++) data.Add(i, all[i].First(line => line[0] != '+'));
        return data;
    }

    [QemuTheory, MemberData(nameof(Paragraphs))]
    public void It_does_what_qemu_img_does(int number, string first)
    {
        _ = first;
        foreach (string line in Read()[number])
            if (line.StartsWith("+ ", StringComparison.Ordinal)) Prepare(Words(line[2..]));
            else if (line.StartsWith("~ ", StringComparison.Ordinal)) Compare(line[2..], comparesErrors: false);
            else Compare(line, comparesErrors: true);
        CompareImages();
        Assert.True(_complaints.Count == 0, string.Join("\n\n", _complaints));
    }

    public void Dispose()
    {
        Directory.SetCurrentDirectory("/");
        Directory.Delete(_theirs, recursive: true);
        Directory.Delete(_ours, recursive: true);
    }

    void Prepare(string[] words)
    {
        if (words[0] == "qemu-io") words = [.. words.Select(word => word.Replace('_', ' '))];
        foreach (string directory in (ReadOnlySpan<string>)[_theirs, _ours])
        {
            Outcome made = QemuTools.Run(directory, words[0], words[1..]);
            Assert.True(made.Code == 0, $"{string.Join(' ', words)}: {made}");
        }
    }

    void Compare(string line, bool comparesErrors)
    {
        string[] words = Words(line);
        Outcome theirs = QemuTools.Run(_theirs, Reference, words), ours = Run(words);
        string wanted = Plain(theirs.Output), got = Plain(ours.Output);
        if (theirs.Code != ours.Code || wanted != got || (comparesErrors && Plain(theirs.Errors) != Plain(ours.Errors)))
            _complaints.Add($"{Reference} {line}\n--- exit {theirs.Code}\n{wanted}{Plain(theirs.Errors)}" +
                $"+++ exit {ours.Code}\n{got}{Plain(ours.Errors)}");
    }

    Outcome Run(string[] words)
    {
        using StringWriter output = new(), errors = new();
        Directory.SetCurrentDirectory(_ours);
        try
        {
            int code = ImageTool.Run(Reference, words, Catalogue.BlockDrivers, output, errors);
            return new Outcome(code, output.ToString(), errors.ToString());
        }
        finally { Directory.SetCurrentDirectory("/"); }
    }

    /// <summary>The same files with the same contents, each sound.</summary>
    void CompareImages()
    {
        string[] theirs = Names(_theirs), ours = Names(_ours);
        if (!theirs.SequenceEqual(ours))
            _complaints.Add($"files: {string.Join(' ', theirs)}\nours: {string.Join(' ', ours)}");
        foreach (string name in theirs.Intersect(ours))
        {
            string format = Path.GetExtension(name) switch
            {
                ".q" => "qcow2",
                _ when name.Contains("-flat", StringComparison.Ordinal) => "raw",
                ".vdi" or ".vmdk" or ".vpc" or ".vhdx" => Path.GetExtension(name)[1..],
                _ => "raw",
            };
            Outcome same = QemuTools.Run("/", Reference, "compare", "-f", format, "-F", format, $"{_theirs}/{name}",
                $"{_ours}/{name}");
            // Neither an image over nothing nor one without its key can be read; no two keys are the same.
            bool isReadable = !same.Errors.Contains("backing file") && !same.Errors.Contains("encrypt");
            if (!isReadable || name.EndsWith(".luks", StringComparison.Ordinal)) continue;
            if (same.Code != 0) _complaints.Add($"{name} differs: {same}");
            if (format is "raw" or "vpc") continue;
            Outcome sound = QemuTools.Run("/", Reference, "check", "-f", format, $"{_ours}/{name}");
            if (sound.Code != 0) _complaints.Add($"{name} is not sound: {sound}");
        }
    }

    static string[] Names(string directory) =>
        [.. Directory.GetFiles(directory).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal)];

    static string[] Words(string line) => [.. line.Split(' ').Select(word => word == "''" ? "" : word)];

    /// <summary>Without what differs from run to run: times, the room that files take, numbers of nodes; and where a
    /// file ends, since clusters may lie in another order.</summary>
    static string Plain(string text)
    {
        text = Times().Replace(text, "<time>");
        text = Room().Replace(text, "$1<room>");
        return NodeNumber().Replace(text, "#block");
    }

    [GeneratedRegex("""\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|(?<="date-n?sec": )\d+|(?<=completed in )[\d.]+""")]
    private static partial Regex Times();

    [GeneratedRegex("""(disk size: |"actual-size": |Image end offset: |"image-end-offset": ).*""")]
    private static partial Regex Room();

    [GeneratedRegex("#block[0-9]+")]
    private static partial Regex NodeNumber();

    static string[][] Read()
    {
        var all = new List<string[]>();
        var paragraph = new List<string>();
        foreach (string line in File.ReadLines(Path.Combine(AppContext.BaseDirectory, "command-lines.txt")).Append(""))
            if (line.Length == 0)
            {
                if (paragraph.Count > 0) all.Add([.. paragraph]);
                paragraph.Clear();
            }
            else if (line[0] != '#') paragraph.Add(line);
        return [.. all];
    }
}
