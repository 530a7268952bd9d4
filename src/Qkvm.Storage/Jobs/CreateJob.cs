using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Graph;

namespace Qkvm.Storage.Jobs;

/// <summary>blockdev-create: a format's empty image on a node, or an empty file.</summary>
sealed class CreateJob(string id, Func<ValueTask> create) : Job(JobType.Create,
    new JobOptions(id, AutoFinalize: true, AutoDismiss: false))
{
    public override bool IsBlockJob => false;

    /// <param name="options">QMP's BlockdevCreateOptions.</param>
    public static CreateJob Make(string id, Options options, BlockGraph graph, Catalogue<BlockDriverModel> drivers)
    {
        string driver = options.Text("driver") ?? throw new CommandException("Parameter 'driver' is missing");
        BlockDriverModel model = drivers.Get(driver, options.Owner);
        if (model == FileDriver.Model) return new CreateJob(id, MakeFile(options, graph.Factory));
        ImageCreation creation = model.Creation
            ?? throw new CommandException($"Driver '{driver}' does not support blockdev-create");
        string file = options.Text("file") ?? throw new CommandException("Parameter 'file' is missing");
        BlockDriver node = graph.Find(file);
        var given = new Options(options.Owner);
        foreach (OptionPair pair in options.Rest)
        {
            (string name, string value) = (pair.Name.Replace('-', '_'), pair.Value);
            if (driver == "qcow2" && name == "version") (name, value) = ("compat", value == "v2" ? "0.10" : "1.1");
            given.Add(name, value);
        }
        var properties = new Properties(creation, given);
        given.Close();
        long size = (long)properties.Size("size");
        if (size % 512 != 0) throw new CommandException("The size of an image must be a multiple of 512 bytes");
        return new CreateJob(id, async () =>
        {
            (node as IGrowable)?.AllowGrowth();
            await node.ResizeAsync(0).ConfigureAwait(false);
            await creation.CreateAsync(new NewImage(graph.Factory, BlockFactory.NameOf(node), node, size, properties))
                .ConfigureAwait(false);
            await node.FlushAsync().ConfigureAwait(false);
        });
    }

    static Func<ValueTask> MakeFile(Options options, BlockFactory factory)
    {
        string path = options.Text("filename") ?? throw new CommandException("Parameter 'filename' is missing");
        if (!Sizes.TryParse(options.Text("size") ?? "", 1, out ulong size) || size > long.MaxValue)
            throw new CommandException("Parameter 'size' expects a size");
        options.Close();
        return async () =>
        {
            await using FileDriver file = factory.CreateFile(path);
            file.AllowGrowth();
            await file.ResizeAsync((long)size).ConfigureAwait(false);
        };
    }

    protected override async Task RunAsync()
    {
        Expect(1);
        await create().ConfigureAwait(false);
        Advance(1);
    }
}
