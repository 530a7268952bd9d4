using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Bochs;
using Qkvm.Storage.Drivers.Cloop;
using Qkvm.Storage.Drivers.Dmg;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Luks;
using Qkvm.Storage.Drivers.Parallels;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Qed;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Drivers.Vdi;
using Qkvm.Storage.Drivers.Vhdx;
using Qkvm.Storage.Drivers.Vmdk;
using Qkvm.Storage.Drivers.Vpc;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Tests;

/// <summary>A directory for one test, and short ways to open images in it.</summary>
sealed class Scratch : IDisposable
{
    readonly string _directory = Directory.CreateTempSubdirectory("qkvm-block-").FullName;

    public List<string> Warnings { get; } = [];

    public string this[string name] => Path.Combine(_directory, name);

    static readonly Catalogue<BlockDriverModel> Drivers = new("block driver",
        [RawDriver.Model, Qcow2Driver.Model, FileDriver.Model, FileDriver.HostDevice, VdiDriver.Model, VpcDriver.Model,
        VmdkDriver.Model, VhdxDriver.Model, QedDriver.Model, ParallelsDriver.Model, BochsDriver.Model,
        CloopDriver.Model, DmgDriver.Model, LuksDriver.Model]);

    public BlockFactory Factory() => new(Drivers, Warnings.Add)
    {
        Secrets = static id => System.Text.Encoding.UTF8.GetBytes(id), // each is its own name
    };

    /// <summary>Opens a drive as a guest's disk uses it.</summary>
    public BlockDriver Open(string name, string options = "format=qcow2")
    {
        string owner = $"-drive file={name}";
        BlockDriver root = OpenUnused(name, options);
        try { Use(root); }
        catch (ConfigurationException e)
        {
            root.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw new ConfigurationException($"{owner}: {e.Message}");
        }
        return root;
    }

    /// <summary>The node alone, for a disk of the test's.</summary>
    public BlockDriver OpenUnused(string name, string options) => Factory()
        .OpenDrive(Options($"{options},file={this[name]}", $"-drive file={name}")).Root!;

    /// <summary>Makes an image as the image tool does.</summary>
    /// <param name="options">As behind -o.</param>
    public async Task Create(string format, string name, long size, string options = "")
    {
        BlockFactory factory = Factory();
        await using BlockDriver file = factory.CreateFile(this[name]);
        (file as IGrowable)?.AllowGrowth();
        var properties = new Properties(Drivers.Find(format)!.Creation!, Options($"size={size},{options}".TrimEnd(','),
            "-o"));
        await Drivers.Find(format)!.Creation!.CreateAsync(new NewImage(factory, this[name], file, size, properties));
    }

    public static BlockEdge Use(BlockDriver node, bool shareWrite = false) =>
        new(node, new TestUser(), "root", BlockUse.Disk(node.IsReadOnly, shareWrite));

    public static Options Options(string text, string owner) =>
        Qkvm.Core.Configuration.Options.Parse(text.TrimStart(','), owner);

    public void Dispose() => Directory.Delete(_directory, recursive: true);
}

sealed class TestUser : IBlockUser
{
    public string UserName => "the test";
    public int Paused { get; private set; }

    public ValueTask<Action> PauseAsync()
    {
        Paused++;
        return new(() => Paused--);
    }
}

/// <summary>What the tests do with nodes.</summary>
static class BlockDriverExtensions
{
    public static async Task<byte[]> Read(this BlockDriver node, long offset, int length)
    {
        var data = new byte[length];
        Random.Shared.NextBytes(data);
        await node.ReadAsync(offset, new ScatterList(data));
        return data;
    }

    public static async Task Write(this BlockDriver node, long offset, byte[] data)
    {
        int middle = data.Length / 3;
        await node.WriteAsync(offset,
            new ScatterList([data.AsMemory(0, middle), Memory<byte>.Empty, data.AsMemory(middle)]));
    }

    public static byte[] Pattern(int seed, int length)
    {
        var data = new byte[length];
        new Random(seed).NextBytes(data);
        return data;
    }
}
