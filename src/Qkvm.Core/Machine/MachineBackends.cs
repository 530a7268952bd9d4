using Qkvm.Core.Audio;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Throttling;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Files;
using Qkvm.Core.Net;
using Qkvm.Core.Tpm;

namespace Qkvm.Core.Machine;

/// <summary>The host sides that options named, until a device takes each. A chardev with mux=on is taken several
/// times.</summary>
public sealed class MachineBackends
{
    readonly AudioHost _silent = AudioModel.Silent();
    readonly HashSet<string> _ofNodes = new(StringComparer.Ordinal);             // drives that go with their user
    readonly Dictionary<string, int> _users = new(StringComparer.Ordinal);       // of objects
    readonly Dictionary<string, string> _owners = new(StringComparer.Ordinal);   // "drive:id" to who took it

    /// <summary>Of -drive, and of the block nodes that devices have taken.</summary>
    public Dictionary<string, BlockBackend> Drives { get; } = new(StringComparer.Ordinal);

    /// <summary>Makes a backend over a node of -blockdev for the first who takes it; null: there is no such
    /// node.</summary>
    public Func<string, string, BlockBackend?> OpenNode { get; set; } = static (_, _) => null;

    /// <summary>Of drives, of nodes and of objects.</summary>
    public ThrottleGroups? Throttles { get; set; }

    /// <summary>Limits a drive from now on.</summary>
    /// <param name="group">Whose limits these are, for all its drives; null: the drive's group, or one of its
    /// own.</param>
    public void Limit(BlockBackend drive, ThrottleLimits limits, string? group, string ownGroup)
    {
        string? before = drive.Throttle?.Group.Name, name = group ?? before ?? ownGroup;
        if (!limits.IsAny) drive.Throttle = null;
        else if (name != before) drive.Throttle = Throttles!.Join(name);
        if (drive.Throttle is { } member) member.Group.Limits = limits;
    }

    /// <summary>Those that clients passed or that were inherited with a number.</summary>
    public Descriptors Descriptors { get; } = new();

    public Dictionary<string, ICharBackend> Chardevs { get; } = new(StringComparer.Ordinal);
    public Dictionary<string, NetBackend> Netdevs { get; } = new(StringComparer.Ordinal);

    /// <summary>What -tpmdev made, by id: one at most.</summary>
    public Dictionary<string, ITpm> Tpms { get; } = new(StringComparer.Ordinal);

    /// <summary>What -fsdev made, by id.</summary>
    public Dictionary<string, SharedFolder> Folders { get; } = new(StringComparer.Ordinal);

    /// <summary>What -audiodev made, in the order of the options.</summary>
    public List<AudioHost> Audiodevs { get; } = [];

    /// <summary>What wavcapture has begun, the oldest first, and what each hears.</summary>
    public List<(AudioHost Audiodev, WavFile File)> Captures { get; } = [];

    /// <summary>What -object made, by id.</summary>
    public Dictionary<string, object> Objects { get; } = new(StringComparer.Ordinal);

    /// <summary>What these are, and what was said of them.</summary>
    public Dictionary<string, (ObjectModel Model, Properties Given)> ObjectOptions { get; } =
        new(StringComparer.Ordinal);

    /// <summary>What gives each of several frontends a port of its own, by the chardev's id.</summary>
    public Dictionary<string, Func<ICharBackend>> Muxes { get; } = new(StringComparer.Ordinal);

    /// <summary>What announce-self has begun, by its id.</summary>
    public Dictionary<string, IDisposable> Announcements { get; } = new(StringComparer.Ordinal);

    /// <summary>What has the terminal that the program was started on, other than a chardev; null for nobody.</summary>
    public string? TerminalUser { get; set; }

    /// <summary>Of chardevs, in the order in which they were made.</summary>
    public List<ITextConsole> Consoles { get; } = [];

    /// <summary>In the order of the options.</summary>
    public List<IRemoteDisplay> RemoteDisplays { get; } = [];

    public BlockBackend TakeDrive(string id, string owner)
    {
        if (!Drives.ContainsKey(id) && OpenNode(id, owner) is { } made)
        {
            Drives[id] = made;
            _ofNodes.Add(id);
        }
        return Take(Drives, "drive", id, owner);
    }

    public ICharBackend TakeChardev(string id, string owner) =>
        Muxes.TryGetValue(id, out Func<ICharBackend>? addPort) ? addPort() : Take(Chardevs, "chardev", id, owner);

    /// <summary>The cable of the netdev of that id.</summary>
    public NetBackend TakeNetdev(string id, string owner) => Take(Netdevs, "netdev", id, owner).Link;

    public ITpm TakeTpm(string id, string owner) => Take(Tpms, "tpmdev", id, owner);

    public SharedFolder FindFolder(string id, string owner) => Folders.GetValueOrDefault(id)
        ?? throw new ConfigurationException($"{owner}: 9pfs device couldn't find fsdev with the id = {id}; give "
            + $"-fsdev local,id={id},path=FOLDER,security_model=…");

    /// <summary>The audiodev of that id, which any number of cards may use.</summary>
    /// <param name="id">Null: the first one, or one that nobody hears.</param>
    public AudioHost FindAudio(string? id, string owner)
    {
        if (id == null && Audiodevs.Count == 0) return _silent;
        return Audiodevs.Find(audiodev => id == null || audiodev.Id == id)
            ?? throw new ConfigurationException($"{owner}: Property 'audiodev' can't find value '{id}'; give -audiodev "
                + $"none,id={id}, or -audiodev wav,id={id},path=FILE");
    }

    /// <summary>The object of that id, which any number may use; each ends with <see cref="ReleaseObject"/>.</summary>
    /// <param name="what">As messages call it: "source of entropy".</param>
    public T FindObject<T>(string id, string what, string owner) where T : class
    {
        T found = Objects.GetValueOrDefault(id) as T ?? throw new ConfigurationException(Objects.ContainsKey(id)
            ? $"{owner}: object '{id}' is no {what}" : $"{owner}: there is no object '{id}'; give -object …,id={id}");
        _users[id] = UsersOfObject(id) + 1;
        return found;
    }

    /// <summary>Ends one use of an object.</summary>
    public void ReleaseObject(string id)
    {
        if (UsersOfObject(id) is > 0 and int users) _users[id] = users - 1;
    }

    public int UsersOfObject(string id) => _users.GetValueOrDefault(id);

    /// <summary>A device has it of a node, and nobody named it.</summary>
    public bool IsOfNode(string drive) => _ofNodes.Contains(drive);

    /// <summary>Who took it, or null.</summary>
    public string? OwnerOfDrive(string id) => _owners.GetValueOrDefault($"drive:{id}");
    public string? OwnerOfChardev(string id) => _owners.GetValueOrDefault($"chardev:{id}");
    public string? OwnerOfNetdev(string id) => _owners.GetValueOrDefault($"netdev:{id}");

    // Another device may take it.

    public void ReleaseDrive(string id)
    {
        _owners.Remove($"drive:{id}");
        if (!_ofNodes.Remove(id)) return;
        Drives[id].Insert(null);                                   // the node is free for others
        Drives.Remove(id);
    }

    public void ReleaseChardev(string id) => _owners.Remove($"chardev:{id}");
    public void ReleaseNetdev(string id) => _owners.Remove($"netdev:{id}");
    public void ReleaseTpm(string id) => _owners.Remove($"tpmdev:{id}");

    T Take<T>(Dictionary<string, T> all, string kind, string id, string owner)
    {
        if (!all.TryGetValue(id, out T? found))
            throw new ConfigurationException($"{owner}: Property '{kind}' can't find value '{id}'");
        if (!_owners.TryAdd($"{kind}:{id}", owner))
            throw new ConfigurationException($"{owner}: {kind} '{id}' is in use by {_owners[$"{kind}:{id}"]} already");
        return found;
    }
}
