using System.Diagnostics;
using Qkvm.Host;

namespace Qkvm.Img.Tests;

/// <summary>A conversion that does not come to its end leaves no file that looks whole.</summary>
public sealed class InterruptionTests : IDisposable
{
    const int Interrupt = 2, Kill = 9, Terminate = 15;             // signal(7)
    const long Size = 256 << 20;

    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-img-").FullName;

    [Theory]
    [InlineData(Interrupt, false)]
    [InlineData(Terminate, true)]
    [InlineData(Kill, false)]
    [InlineData(Kill, true)]
    public void Under_its_name_is_what_was_there_before(int signal, bool exists)
    {
        string source = Path.Combine(_directory, "a.raw"), target = Path.Combine(_directory, "b.raw"),
            part = target + ".part";
        ToolProcess.MakeSource(source, (int)(Size >> 20));
        if (exists) File.WriteAllText(target, "before");
        // Slow enough to be caught on its way.
        using Process process = ToolProcess.Start("convert", "-f", "raw", "-O", "raw", "-r", "8M", source, target);
        ToolProcess.AwaitBegin(process, target, Size);
        Assert.Equal(0, Libc.tgkill(process.Id, process.Id, signal));
        Assert.True(process.WaitForExit(ToolProcess.Patience), "it goes on");
        Assert.NotEqual(0, process.ExitCode);
        Assert.Equal(exists, File.Exists(target));
        if (exists) Assert.Equal("before", File.ReadAllText(target));
        if (signal != Kill) Assert.False(File.Exists(part), "what was begun is left");
    }

    [Theory]
    [InlineData("twoGbMaxExtentSparse", "s001")] [InlineData("twoGbMaxExtentFlat", "f001")]
    public void An_image_of_several_files_is_replaced_with_all_of_them_or_none(string kind, string extent)
    {
        string source = Path.Combine(_directory, "a.raw"), target = Path.Combine(_directory, "b.vmdk"),
            first = Path.Combine(_directory, $"b-{extent}.vmdk");
        using (FileStream file = File.Create(source))
            for (int i = 0; i < 32; i++) file.Write([.. Enumerable.Repeat((byte)i, 1 << 20)]);
        File.WriteAllText(target, "before");
        File.WriteAllText(first, "before");
        string[] words = ["convert", "-f", "raw", "-O", "vmdk", "-o", $"subformat={kind}"];
        using (Process process = ToolProcess.Start([.. words, "-r", "1M", source, target]))
        {
            var clock = Stopwatch.StartNew();
            while (!File.Exists(first + ".part") && !process.HasExited && clock.Elapsed < ToolProcess.Patience)
                Thread.Sleep(10);
            Assert.Equal(0, Libc.tgkill(process.Id, process.Id, Terminate));
            Assert.True(process.WaitForExit(ToolProcess.Patience), "it goes on");
            Assert.NotEqual(0, process.ExitCode);
        }
        Assert.Equal(["before", "before"], [File.ReadAllText(target), File.ReadAllText(first)]);
        using (Process process = ToolProcess.Start([.. words, source, target]))
        {
            Assert.True(process.WaitForExit(ToolProcess.Patience), "it goes on");
            Assert.Equal(0, process.ExitCode);
        }
        Assert.Equal(["a.raw", $"b-{extent}.vmdk", "b.vmdk"],
            Directory.GetFiles(_directory).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        using Process compare = ToolProcess.Start("compare", "-f", "raw", "-F", "vmdk", source, target);
        Assert.True(compare.WaitForExit(ToolProcess.Patience), "it goes on");
        Assert.Equal(0, compare.ExitCode);
        if (QemuTools.Missing == null)
            Assert.Equal(0, QemuTools.Run(_directory, "qemu-img", "compare", source, target).Code);
    }

    [Fact]
    public void What_replaces_a_file_has_its_rights()
    {
        string source = Path.Combine(_directory, "a.raw"), target = Path.Combine(_directory, "b.raw");
        File.WriteAllBytes(source, new byte[4096]);
        File.WriteAllText(target, "before");
        HostFile.SetMode(target, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        Convert(source, target);
        Assert.Equal(new byte[4096], File.ReadAllBytes(target));
        Assert.True(HostFile.TryStatus(target, out FileStatus status, out _));
        Assert.Equal((uint)(UnixFileMode.UserRead | UnixFileMode.UserWrite), status.Permissions);
        Assert.False(File.Exists(target + ".part"));
    }

    [Fact]
    public void A_file_with_two_names_keeps_both()
    {
        string source = Path.Combine(_directory, "a.raw"), target = Path.Combine(_directory, "b.raw"),
            other = Path.Combine(_directory, "c.raw");
        File.WriteAllBytes(source, [.. Enumerable.Repeat((byte)7, 4096)]);
        File.WriteAllText(target, "before");
        using (Process link = Process.Start("ln", [target, other])) link.WaitForExit();
        Convert(source, target);
        Assert.Equal(File.ReadAllBytes(source), File.ReadAllBytes(other));
    }

    static void Convert(string source, string target)
    {
        using StringWriter output = new(), errors = new();
        int code = ImageTool.Run("img", ["convert", "-f", "raw", source, target], Catalogue.BlockDrivers, output,
            errors);
        Assert.Equal((0, ""), (code, errors.ToString()));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);
}
