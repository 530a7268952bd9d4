namespace Qkvm.Img.Tests;

/// <summary>Where this tool is knowingly unlike qemu-img 7.2, which judges the images nevertheless.</summary>
public sealed class UnlikeQemuTests : IDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-img-").FullName;

    /// <summary>qemu-img leaves clusters unallocated through which the new backing file shines.</summary>
    [QemuFact]
    public void An_old_image_that_comes_to_lie_over_another_stays_what_it_was()
    {
        Qemu("qemu-img", "create", "-q", "-f", "qcow2", "new.q", "400k");
        Qemu("qemu-io", "-c", "write -P 1 0 400k", "new.q");
        Qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "a.q", "400k");
        Qemu("qemu-io", "-c", "write -P 3 64k 10k", "a.q");
        File.Copy(At("a.q"), At("before.q"));
        Ours("rebase", "-b", At("new.q"), "-F", "qcow2", At("a.q"));
        Qemu("qemu-img", "compare", "before.q", "a.q");
        Qemu("qemu-img", "check", "a.q");
    }

    /// <summary>qemu-img ends with an I/O error.</summary>
    [QemuFact]
    public void Clusters_are_compressed_over_others()
    {
        Qemu("qemu-img", "create", "-q", "-f", "raw", "a.raw", "300k");
        Qemu("qemu-io", "-f", "raw", "-c", "write -P 1 0 200k", "a.raw");
        Qemu("qemu-img", "create", "-q", "-f", "qcow2", "b.q", "300k");
        Qemu("qemu-io", "-c", "write -P 2 0 300k", "b.q");
        Ours("convert", "-c", "-n", "-f", "raw", "-O", "qcow2", At("a.raw"), At("b.q"));
        Qemu("qemu-img", "compare", "-f", "raw", "a.raw", "b.q");
        Qemu("qemu-img", "check", "b.q");
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    string At(string name) => Path.Combine(_directory, name);

    void Qemu(string program, params string[] arguments)
    {
        Outcome outcome = QemuTools.Run(_directory, program, arguments);
        Assert.True(outcome.Code == 0, $"{program} {string.Join(' ', arguments)}: {outcome}");
    }

    static void Ours(params string[] words)
    {
        using StringWriter output = new(), errors = new();
        int code = ImageTool.Run("img", words, Catalogue.BlockDrivers, output, errors);
        Assert.Equal((0, ""), (code, errors.ToString()));
    }
}
