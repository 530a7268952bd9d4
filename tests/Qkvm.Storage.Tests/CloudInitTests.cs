using System.Text;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers.CloudInit;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

/// <summary>The disk for cloud-init, read by readers of both file systems that the tests have of their own.</summary>
public class CloudInitTests
{
    const string Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsd9GFRvnqTxDcRWYZVTLEq7BOy9WTYR+2jC0uxZUNx me@there";

    static BlockDriver Open(string options) =>
        new BlockFactory(new Catalogue<BlockDriverModel>("block driver", [CloudInitDriver.Model]), _ => { })
            .AddNode(Options.Parse($"driver=cloud-init,node-name=n,read-only=on{options}", "-cloud-init"));

    static async Task<Dictionary<string, string>> Files(string options, bool isFat = false)
    {
        await using BlockDriver disk = Open(options + (isFat ? ",seed=fat" : ""));
        Dictionary<string, byte[]> files = isFat ? await new FatReader(disk, isFloppy: true).Files()
            : JolietReader.Files(await disk.Read(0, (int)disk.Length));
        return files.ToDictionary(f => f.Key, f => Encoding.UTF8.GetString(f.Value));
    }

    [Theory]
    [InlineData(false)] [InlineData(true)]
    public async Task Both_file_systems_have_the_files_by_their_names(bool isFat)
    {
        using var scratch = new Scratch();
        string script = "#!/bin/sh\n" + new string('x', 5000);
        File.WriteAllText(scratch["user"], script);
        File.WriteAllText(scratch["net"], "version: 2\n");
        File.WriteAllText(scratch["meta"], "instance-id: one\n");
        File.WriteAllText(scratch["vendor"], "");
        Dictionary<string, string> files = await Files($",user-data={scratch["user"]},meta-data={scratch["meta"]}"
            + $",network-config={scratch["net"]},vendor-data={scratch["vendor"]}", isFat);
        Assert.Equal(new Dictionary<string, string>
        {
            ["user-data"] = script, ["meta-data"] = "instance-id: one\n", ["network-config"] = "version: 2\n",
            ["vendor-data"] = "",
        }, files);
    }

    [Fact]
    public async Task Name_keys_and_password_become_files()
    {
        using var scratch = new Scratch();
        File.WriteAllText(scratch["key.pub"], $"# mine\n{Key}\n\n");
        Dictionary<string, string> files =
            await Files($",hostname=web1.example.org,password=a\"b\\,,,ssh-key={scratch["key.pub"]}");
        Assert.Equal(["meta-data", "user-data", "vendor-data"], files.Keys.Order());
        Assert.Equal("#cloud-config\n{}\n", files["user-data"]);
        Assert.Equal("#cloud-config\npassword: \"a\\\"b\\\\,\"\nchpasswd: {expire: false}\nssh_pwauth: true\n",
            files["vendor-data"]);
        Assert.Matches($"^instance-id: iid-[0-9a-f]{{16}}\nlocal-hostname: web1.example.org\npublic-keys:\n"
            + $"- \"{Key.Replace("+", "\\+")}\"\n$", files["meta-data"]);
    }

    [Fact]
    public async Task Other_contents_are_another_instance_and_the_same_are_the_same_disk()
    {
        using var scratch = new Scratch();
        File.WriteAllText(scratch["user"], "#cloud-config\n");
        string options = $",user-data={scratch["user"]}";
        byte[] first = await Whole(options);
        Assert.Equal(first, await Whole(options));
        Assert.NotEqual(first, await Whole(options + ",hostname=x"));
        string before = (await Files(options))["meta-data"];
        File.WriteAllText(scratch["user"], "#cloud-config\n#\n");
        Assert.NotEqual(before, (await Files(options))["meta-data"]);
    }

    static async Task<byte[]> Whole(string options)
    {
        await using BlockDriver disk = Open(options);
        return await disk.Read(0, (int)disk.Length);
    }

    [Theory]
    [InlineData("user-data", "", "user-data=FILE: Could not find file")]
    [InlineData("user-data", "packages: [vim]\n", "cloud-init would not know what it is; begin it with a line "
        + "#cloud-config")]
    [InlineData("user-data", "#cloud-config\nusers:\n\t- me\n", "line 3 begins with a tab, which YAML does not take")]
    [InlineData("network-config", "\tversion: 2", "line 1 begins with a tab")]
    [InlineData("ssh-key", "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "is a private key, which stays with you; give FILE.pub")]
    [InlineData("ssh-key", "hello\n", "'hello' is no public key of OpenSSH")]
    [InlineData("ssh-key", "# none\n", "has no key")]
    public void Files_that_cloud_init_would_not_take_are_refused_by_name(string option, string text, string reason)
    {
        using var scratch = new Scratch();
        string path = scratch["file"];
        if (text != "") File.WriteAllText(path, text);
        string message = Assert.Throws<ConfigurationException>(() => Open($",{option}={path}")).Message;
        Assert.Contains(reason, message.Replace(path, "FILE"));
        Assert.StartsWith($"-cloud-init: {option}=", message);
    }

    [Theory]
    [InlineData("hostname=-x", "hostname=-x: expects letters")] [InlineData("hostname=a_b", "hostname=a_b: expects")]
    [InlineData("password=", "password= is empty")]
    public void So_are_names_and_passwords(string option, string reason) =>
        Assert.Contains(reason, Assert.Throws<ConfigurationException>(() => Open($",{option}")).Message);

    [Theory]
    [InlineData("hostname=x", "meta-data", "hostname= and meta-data= exclude each other; write local-hostname:")]
    [InlineData("password=x", "vendor-data", "password= and vendor-data= exclude each other; write password:")]
    public void What_would_be_in_a_file_that_is_given_is_refused(string option, string file, string reason)
    {
        using var scratch = new Scratch();
        File.WriteAllText(scratch["file"], "#cloud-config\n");
        Assert.Contains(reason,
            Assert.Throws<ConfigurationException>(() => Open($",{option},{file}={scratch["file"]}")).Message);
    }

    [Fact]
    public void Too_much_is_refused()
    {
        using var scratch = new Scratch();
        File.WriteAllText(scratch["big"], "#!/bin/sh\n" + new string('x', 1_500_000));
        Assert.Contains("does not fit in FAT12", Assert.Throws<ConfigurationException>(() =>
            Open($",user-data={scratch["big"]},seed=fat")).Message);
        File.WriteAllText(scratch["big"], "#!/bin/sh\n" + new string('x', 16 << 20));
        Assert.Contains("is longer than 16 MiB", Assert.Throws<ConfigurationException>(() =>
            Open($",user-data={scratch["big"]}")).Message);
    }
}
