using System.Diagnostics;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.Qcow2;

namespace Qkvm.Storage.Tests;

/// <summary>Both programs keep each other from writing to one image.</summary>
public sealed class ImageLockTests
{
    [QemuTheory]
    [InlineData("qcow2")] [InlineData("raw")]
    public async Task A_second_writer_is_refused_and_told_who_the_first_is(string format)
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", format, scratch["a.img"], "1M");
        using Process holder = QemuTools.Start("qemu-io", "-f", format, scratch["a.img"]);
        holder.StandardInput.WriteLine("read 0 512");
        holder.StandardInput.Flush();
        while (holder.StandardOutput.ReadLine() is { } line && !line.Contains("read 512/512")) { }

        string message = Assert.Throws<ConfigurationException>(() => scratch.Open("a.img", $"format={format}")).Message;
        string kind = format == "raw" ? "shared \"write\"" : "\"write\""; // qemu-io lets others write to raw images
        Assert.StartsWith($"-drive file=a.img: Failed to get {kind} lock: the image is in use by process " +
            $"{holder.Id} (qemu-io)", message);
        Assert.Contains("Failed to get shared \"write\" lock",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a.img", $"format={format},readonly=on")).Message);
        await scratch.Open("a.img", $"format={format},readonly=on,force-share=on").DisposeAsync();
        await scratch.Open("a.img", $"format={format},file.locking=off")
            .DisposeAsync();
        holder.StandardInput.Close();
        holder.WaitForExit();
        await scratch.Open("a.img", $"format={format}").DisposeAsync();
    }

    [QemuTheory]
    [InlineData("qcow2")] [InlineData("raw")]
    public async Task Qemu_respects_the_locks_of_ours(string format)
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "-f", format, scratch["a.img"], "1M");
        await using (scratch.Open("a.img", $"format={format}"))
        {
            (int code, string output) = QemuTools.Run("qemu-io", "-f", format, "-c", "write 0 512", scratch["a.img"]);
            Assert.NotEqual(0, code);
            Assert.Contains("Failed to get \"write\" lock", output);
            if (format == "qcow2")
                Assert.Contains("shared \"write\" lock", QemuTools.Run("qemu-img", "info", scratch["a.img"]).Output);
            QemuTools.Img("info", "-U", scratch["a.img"]);
        }
        await using (scratch.Open("a.img", $"format={format},readonly=on"))
        {
            QemuTools.Img("info", scratch["a.img"]);               // readers go together
            Assert.Contains("Failed to get \"write\" lock",
                QemuTools.Run("qemu-io", "-f", format, "-c", "write 0 512", scratch["a.img"]).Output);
        }
        (int free, string freeOutput) = QemuTools.Run("qemu-io", "-f", format, "-c", "write 0 512", scratch["a.img"]);
        Assert.True(free == 0, freeOutput);
    }

    [Fact]
    public async Task Two_drives_of_one_machine_cannot_write_to_one_image()
    {
        using var scratch = new Scratch();
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions());
        await using BlockDriver first = scratch.Open("a.qcow2");
        Assert.Contains("by another drive of this machine",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a.qcow2")).Message);
        await first.Write(0, new byte[512]);
    }

    [Fact]
    public async Task An_image_in_use_is_not_created_anew()
    {
        using var scratch = new Scratch();
        await Qcow2Image.CreateAsync(scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions());
        await using BlockDriver first = scratch.Open("a.qcow2");
        byte[] before = File.ReadAllBytes(scratch["a.qcow2"]);
        await Assert.ThrowsAsync<ConfigurationException>(() =>
            Qcow2Image.CreateAsync(scratch["a.qcow2"], 1 << 20, new Qcow2CreateOptions()));
        Assert.Equal(before, File.ReadAllBytes(scratch["a.qcow2"]));
    }
}
