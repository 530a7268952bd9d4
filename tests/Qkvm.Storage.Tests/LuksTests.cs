using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Storage.Tests;

/// <summary>Encrypted images, by themselves and inside qcow2, in both directions with the reference tools.</summary>
public sealed class LuksTests
{
    const int Size = 2 << 20;
    const string Secret = "secret,id=hidden,data=hidden";

    [QemuTheory]
    [InlineData("")] [InlineData(",cipher-alg=aes-128,hash-alg=sha1")] [InlineData(",hash-alg=sha512")]
    public async Task A_volume_of_qemus_is_read_and_written(string more)
    {
        using var scratch = new Scratch();
        QemuTools.Img("create", "-q", "--object", Secret, "-f", "luks", "-o", $"key-secret=hidden,iter-time=10{more}",
            scratch["a"], Size.ToString());
        await TakesWrites(scratch, "luks", "key-secret=hidden");
    }

    [QemuTheory]
    [InlineData("")] [InlineData(",cipher-alg=aes-128,hash-alg=sha512")]
    public async Task A_volume_of_ours_is_read_and_written_by_qemu(string more)
    {
        using var scratch = new Scratch();
        await scratch.Create("luks", "a", Size, $"key-secret=hidden,iter-time=10{more}");
        await TakesWrites(scratch, "luks", "key-secret=hidden");
    }

    [QemuTheory]
    [InlineData("")] [InlineData(",cluster_size=4k")] [InlineData(",extended_l2=on")]
    [InlineData(",encrypt.cipher-alg=aes-128,preallocation=metadata")]
    public async Task Qcow2_images_of_both_are_read_and_written_by_both(string more)
    {
        using var scratch = new Scratch();
        const string options = "encrypt.format=luks,encrypt.key-secret=hidden,encrypt.iter-time=10";
        QemuTools.Img("create", "-q", "--object", Secret, "-f", "qcow2", "-o", options + more, scratch["a"],
            Size.ToString());
        await TakesWrites(scratch, "qcow2", "encrypt.key-secret=hidden");
        File.Delete(scratch["a"]);
        await scratch.Create("qcow2", "a", Size, options + more);
        await TakesWrites(scratch, "qcow2", "encrypt.key-secret=hidden");
        Assert.Contains("No errors", QemuTools.Img("check", "--object", Secret, "--image-opts",
            $"driver=qcow2,file.filename={scratch["a"]},encrypt.key-secret=hidden"));
        Assert.Contains("'encrypt.key-secret' is required",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=qcow2")).Message);
        Assert.Contains("Invalid password",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a",
                "format=qcow2,encrypt.key-secret=x")).Message);
    }

    [Fact]
    public void Version_2_is_refused()
    {
        using var scratch = new Scratch();
        File.WriteAllBytes(scratch["a"], [.. "LUKS"u8, 0xBA, 0xBE, 0, 2, .. new byte[Size]]);
        Assert.Contains("LUKS version 2 is not supported",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=luks,key-secret=hidden")).Message);
    }

    [QemuFact]
    public async Task A_wrong_passphrase_opens_nothing()
    {
        using var scratch = new Scratch();
        await scratch.Create("luks", "a", Size, "key-secret=hidden,iter-time=10");
        Assert.Contains("Invalid password",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=luks,key-secret=other")).Message);
        Assert.Contains("'key-secret' is required",
            Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=luks")).Message);
    }

    [Theory]
    [InlineData(6, 2)] [InlineData(8, 0x41)] [InlineData(40, 0x41)] [InlineData(72, 0x41)] [InlineData(104, 0xFF)]
    [InlineData(108, 0xFF)] [InlineData(164, 0xFF)] [InlineData(212, 0xFF)] [InlineData(248, 0xFF)]
    [InlineData(252, 0xFF)]
    public async Task A_header_with_impossible_fields_is_refused(int at, byte value)
    {
        using var scratch = new Scratch();
        await scratch.Create("luks", "a", Size, "key-secret=hidden,iter-time=10");
        byte[] bytes = File.ReadAllBytes(scratch["a"]);
        bytes[at] = value;
        File.WriteAllBytes(scratch["a"], bytes);
        Assert.Throws<ConfigurationException>(() => scratch.Open("a", "format=luks,key-secret=hidden"));
    }

    /// <summary>Random requests on the image and on an array, which the reference tools compare.</summary>
    static async Task TakesWrites(Scratch scratch, string format, string secret)
    {
        string opts = $"driver={format},file.filename={scratch["a"]},{secret}";
        byte[] model = BlockDriverExtensions.Pattern(1, Size);
        File.WriteAllBytes(scratch["model"], model);
        QemuTools.Img("convert", "-n", "--object", Secret, "-f", "raw", scratch["model"], "--target-image-opts", opts);
        await using (BlockDriver image = scratch.Open("a", $"format={format},discard=unmap,{secret}"))
        {
            Assert.Equal(model, await image.Read(0, Size));
            Assert.Equal(model[1000..3000], await image.Read(1000, 2000));
            var random = new Random(2);
            for (int i = 0; i < 60; i++)
            {
                int length = random.Next(1, 70_000), at = random.Next(Size - length);
                if (i % 3 > 0 || format == "qcow2") (length, at) = (length / 512 * 512 + 512, at / 1024 * 512);
                byte[] data = BlockDriverExtensions.Pattern(i, length);
                await image.Write(at, data);
                data.CopyTo(model, at);
                if (i % 9 != 0) continue;
                await image.WriteZeroesAsync(at & -512, 8192, mayUnmap: true);
                model.AsSpan(at & -512, 8192).Clear();
            }
            Assert.Equal(model, await image.Read(0, Size));
        }
        QemuTools.Img("convert", "--object", Secret, "--image-opts", opts, "-O", "raw", scratch["reference"]);
        Assert.Equal(model, File.ReadAllBytes(scratch["reference"]));
    }
}
