using Qkvm.Backends.Char;
using Qkvm.Backends.Objects;
using Qkvm.Core.Audio;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Jobs;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Files;
using Qkvm.Core.Time;
using Qkvm.Core.Tpm;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Machines;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Jobs;

namespace Qkvm;

/// <summary>Makes backends from the catalogue's models, and closes in the end what it made, the newest first.</summary>
sealed partial class BackendHost : IBackendHost
{
    readonly MachineEnvironment _environment;
    readonly Notices _notices;
    readonly Action _quit;
    readonly byte _escape;
    readonly List<IDisposable> _opened = [];
    readonly BlockFactory _blocks;
    readonly BlockExports _exports;
    readonly JobList _jobs;

    /// <param name="quit">ctrl-a x on a shared terminal.</param>
    /// <param name="escape">What ctrl-a is to a shared terminal: -echr.</param>
    public BackendHost(MachineEnvironment environment, Notices notices, Action quit, byte escape)
    {
        (_environment, _notices, _quit, _escape) = (environment, notices, quit, escape);
        _blocks = new BlockFactory(Catalogue.BlockDrivers, notices.Warn)
        {
            Secrets = id => (Backends.Objects.GetValueOrDefault(id) as Secret)?.Value,
            Credentials = id => Backends.Objects.GetValueOrDefault(id) as TlsCredentials,
            JoinThrottle = name => Backends.Throttles!.TryJoin(name),
        };
        _exports = new BlockExports(Loop, _blocks, Backends);
        _jobs = new JobList(Loop.Post);
        BlockJobs = new BlockJobs(new BlockGraph(_blocks, Backends, ChangeGraphAsync), _jobs, Catalogue.BlockDrivers);
        Backends.OpenNode = OpenNode;
        Backends.Throttles = new ThrottleGroups(new SteadyClock(TimeProvider.System, Loop.Post), Loop.Post);
    }

    public IBlockExports Exports => _exports;
    public IBlockJobs BlockJobs { get; }

    public EventLoop Loop => _environment.Loop;
    public MachineBackends Backends { get; } = new();

    /// <summary>Opens monitors once there is a machine.</summary>
    public Func<MonitorConfig, IDisposable>? MonitorOpener { get; set; }

    public IDisposable OpenMonitor(MonitorConfig config) => MonitorOpener!(config);

    public void Add(ChardevConfig chardev)
    {
        if (Backends.Chardevs.ContainsKey(chardev.Id))
            throw chardev.Options.Error($"Chardev with id '{chardev.Id}' already exists");
        (ICharBackend made, bool isMux) = Make(chardev);
        var backend = new ChangeableChar(made);
        if (isMux) Backends.Muxes[chardev.Id] = new MuxChar(backend, _quit, FlushDisks, _escape).AddPort;
        Backends.Chardevs[chardev.Id] = backend;
    }

    public void ChangeChardev(ChardevConfig chardev)
    {
        string id = chardev.Id;
        if (!Backends.Chardevs.TryGetValue(id, out ICharBackend? old))
            throw new CommandException($"Chardev '{id}' does not exist");
        if (Backends.Muxes.ContainsKey(id) || old is not ChangeableChar place)
            throw new CommandException("Mux device hotswap not supported yet");
        if (place.Stream is SocketChar { IsLent: true })
            throw new CommandException($"Chardev '{id}' is in use by a network that keeps its peer");
        (ICharBackend backend, bool isMux) = Make(chardev);
        if (isMux)
        {
            Close(backend);
            throw new CommandException("Mux device hotswap not supported yet");
        }
        ICharBackend before = place.Inner;
        place.ChangeTo(backend);
        Close(before);
    }

    (ICharBackend Backend, bool IsMux) Make(ChardevConfig chardev)
    {
        CharModel model = Catalogue.Chardevs.Get(chardev.Backend, chardev.Owner);
        chardev.Options.Add("id", chardev.Id);
        var properties = new Properties(model, chardev.Options);
        ICharBackend backend = model.Create(properties, this);
        if (properties.Text("logfile") is { } log)
        {
            try { backend = new LoggedChar(backend, log, properties.Bool("logappend"), chardev.Owner); }
            catch
            {
                (backend as IDisposable)?.Dispose();
                throw;
            }
        }
        return (Keep(backend), chardev.Mux || properties.Bool("mux"));
    }

    public string AddCharacter(string device, string id, string owner)
    {
        if (Cli.Expander.NamedCharacter(device) is { } existing) return existing;
        (CharModel model, Options options) = Cli.Expander.CharacterOptions(device, owner);
        Add(new ChardevConfig(id, model.Name, options));
        return id;
    }

    public void Add(NetdevConfig netdev)
    {
        NetModel model = Catalogue.Netdevs.Get(netdev.Type, netdev.Owner);
        if (Backends.Netdevs.ContainsKey(netdev.Id))
            throw netdev.Options.Error($"Duplicate ID '{netdev.Id}' for netdev");
        netdev.Options.Add("id", netdev.Id);
        Backends.Netdevs[netdev.Id] = Keep(model.Create(new Properties(model, netdev.Options), this));
    }

    public void Add(TpmConfig tpm)
    {
        TpmModel model = Catalogue.Tpms.Get(tpm.Type, tpm.Owner);
        tpm.Options.Add("id", tpm.Id);
        Backends.Tpms[tpm.Id] = Keep(model.Create(new Properties(model, tpm.Options), this));
    }

    public void Add(FolderConfig folder)
    {
        FileSystemModel model = Catalogue.FileSystems.Get(folder.Driver, folder.Owner);
        folder.Options.Add("id", folder.Id);
        Backends.Folders[folder.Id] = Keep(model.Create(new Properties(model, folder.Options), this));
    }

    public void Add(AudioConfig audiodev)
    {
        AudioModel model = Catalogue.Audiodevs.Get(audiodev.Driver, audiodev.Owner);
        audiodev.Options.Add("id", audiodev.Id);
        Backends.Audiodevs.Add(Keep(model.Create(new Properties(model, audiodev.Options), this)));
    }

    public void Add(ObjectConfig made)
    {
        ObjectModel model = Catalogue.Objects.Get(made.Type, made.Owner);
        if (Backends.Objects.ContainsKey(made.Id)) throw new ConfigurationException($"{made.Owner}: duplicate id "
            + $"'{made.Id}' for object");
        made.Options.Add("id", made.Id);
        var given = new Properties(model, made.Options);
        Backends.Objects[made.Id] = Keep(model.Create(given, this));
        Backends.ObjectOptions[made.Id] = (model, given);
    }

    public void Add(BlockdevConfig node)
    {
        node.Options.Add("driver", node.Driver);
        node.Options.Add("node-name", node.NodeName);
        _blocks.AddNode(node.Options);
    }

    BlockBackend? OpenNode(string name, string owner)
    {
        if (_blocks.Find(name) is not { } root) return null;
        var backend = new BlockBackend(name, Loop.Post) { IsReadOnly = root.IsReadOnly, Description = name };
        Insert(backend, root, owner);
        return backend;
    }

    static void Insert(BlockBackend backend, BlockDriver? root, string owner)
    {
        try { backend.Insert(root); }
        catch (ConfigurationException e) { throw new ConfigurationException($"{owner}: {e.Message}", e); }
    }

    public void Add(DriveConfig drive)
    {
        var backend = new BlockBackend(drive.Id, Loop.Post) { IsReadOnly = drive.ReadOnly, Serial = drive.Serial };
        (backend.Errors.OnRead, backend.Errors.OnWrite) = (drive.OnReadError, drive.OnWriteError);
        if (drive.File is { } file) drive.Options.Add("file", file);
        if (drive.Format is { } format) drive.Options.Add("format", format);
        if (drive.ReadOnly) drive.Options.Add("readonly", "on");
        if (drive.Snapshot) drive.Options.Add("snapshot", "on");
        OpenedDrive opened = _blocks.OpenDrive(drive.Options);     // which a drive without a disk in it takes, too
        backend.IsReadOnly = opened.ReadOnly;
        backend.WriteCache = opened.WriteCache;
        backend.Description = opened.Description;
        if (opened.Root != null) Insert(backend, opened.Root, drive.Options.Owner);
        Backends.Drives[drive.Id] = backend;
        if (drive.Limits is { } limits) Backends.Limit(backend, limits, drive.ThrottleGroup, drive.Id);
    }

    public void Print(string line) => Console.WriteLine(line);
    public void Warn(string line) => _notices.Warn(line);

    /// <summary>Waits for requests in flight, then ends the threads that move data: before the memory that they write
    /// to goes. Not under the machine lock.</summary>
    /// <returns>False: a disk does not answer, and the process must end around it.</returns>
    public bool SettleDisks()
    {
        const int Patience = 5000;                                 // milliseconds
        foreach (BlockBackend drive in Backends.Drives.Values)
        {
            if (drive.Drain(Patience)) continue;
            Warn($"drive '{drive.Id}' does not answer; what the guest wrote to it last may be lost");
            foreach (IDisposable opened in _opened)
                if (opened is ICharBackend) opened.Dispose();      // terminals get their modes back
            return false;
        }
        foreach (IDisposable opened in _opened)
            if (opened is IoThread thread) thread.Dispose();
        _environment.DataThread.Dispose();
        return true;
    }

    /// <summary>Under the machine lock, after the machine: all but disks.</summary>
    public void Close()
    {
        foreach ((_, WavFile capture) in Backends.Captures) capture.Dispose();
        for (int i = _opened.Count - 1; i >= 0; i--) _opened[i].Dispose();
        _opened.Clear();
    }

    /// <summary>Without the machine lock; nodes that drives share are closed once.</summary>
    public void CloseDisks()
    {
        foreach (BlockDriver node in _blocks.Nodes) node.LetGo();  // for good: jobs and exports end now
        foreach (BlockBackend drive in Backends.Drives.Values) drive.Root?.LetGo();
        _jobs.Kill();
        _exports.Close();
        foreach (BlockBackend drive in Backends.Drives.Values)
            if (_blocks.Find(drive.Id) == null) drive.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _blocks.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    /// <summary>ctrl-a s: what guests wrote reaches the disks, while the machine goes on.</summary>
    void FlushDisks()
    {
        foreach (BlockBackend drive in Backends.Drives.Values)
            if (drive.Root is { IsReadOnly: false } root) Task.Run(() => FlushAsync(drive.Id, root));
    }

    async Task FlushAsync(string id, BlockDriver root)
    {
        try { await root.FlushAsync().ConfigureAwait(false); }
        catch (BlockException e) { Warn($"drive '{id}': {e.Message}"); }
    }

    T Keep<T>(T opened)
    {
        if (opened is IDisposable disposable) _opened.Add(disposable);
        return opened;
    }
}
