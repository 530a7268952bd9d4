using Qkvm.Core.Acpi;
using Qkvm.Core.Audio;
using Qkvm.Core.Block;
using Qkvm.Core.Char;
using Qkvm.Core.Display;
using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Core.Net;
using Qkvm.Core.Time;
using Qkvm.Core.Tpm;
using Qkvm.Host;

namespace Qkvm.Core.Devices;

/// <summary>Where one device stands: what it takes of the board and of the host is written down here, and
/// <see cref="Dispose"/> gives it back, the last first. Under the machine lock.</summary>
/// <remarks>Disposed of when making the device failed and when it was unplugged; vCPUs stand then, so that
/// none still reads memory that goes.</remarks>
/// <param name="bus">What the device sits on.</param>
/// <param name="id">The device's, or null.</param>
/// <param name="owner">The option or command that asked for the device, as messages name it.</param>
public sealed class DeviceSite(IBoard board, string owner, QBus? bus = null, string? id = null) : IDisposable
{
    readonly Stack<Action> _taken = new();
    readonly List<QBus> _buses = [];
    readonly List<AcpiDescription> _descriptions = [];

    /// <summary>For what is only looked at or asked for.</summary>
    public IBoard Board => board;

    /// <summary>The device's, or null.</summary>
    public string? Id => id;

    /// <summary>Where QEMU's tree of objects has the device; those without an id are numbered.</summary>
    public string ObjectPath
    {
        get
        {
            if (id != null) return $"/machine/peripheral/{id}";
            QBus root = Bus;
            while (root.Owner?.Bus is { } above) root = above;
            int number = root.AllDevices.Where(d => d.Id == null && d.Site != null)
                .TakeWhile(d => d.Site != this).Count();
            return $"/machine/peripheral-anon/device[{number}]";
        }
    }

    /// <summary>What the device sits on.</summary>
    public QBus Bus => bus ?? throw new InvalidOperationException($"{owner}: no bus");

    /// <summary>The buses that it brings.</summary>
    public IReadOnlyList<QBus> Buses => _buses;

    /// <summary>What a bus that the device brings is called: as its id, or by its kind and a number where it has
    /// none.</summary>
    /// <param name="ending">Of the name after an id: ".0".</param>
    public string NameBus(BusKind kind, string ending = "")
    {
        if (id != null) return id + ending;
        string name = kind.Name.ToLowerInvariant();
        int number = 0;
        while (board.FindBus($"{name}.{number}") != null) number++;
        return $"{name}.{number}";
    }

    /// <summary>Brings a bus.</summary>
    public void AddBus(QBus brought) => _buses.Add(brought);

    /// <summary>What ACPI tells the guest of the device.</summary>
    public IReadOnlyList<AcpiDescription> Descriptions => _descriptions;

    /// <summary>Describes it to ACPI, below what has its bus.</summary>
    /// <param name="name">Four letters at most; of several with one name the first is described.</param>
    public void Describe(string name, Func<Aml[]> terms) => _descriptions.Add(new AcpiDescription(name, terms));

    /// <summary>The machine's time; timers made of it are cancelled with the site.</summary>
    public IVirtualClock Clock => field ??= new SiteClock(this, board.Clock);

    /// <summary>A wire of its own to a global system interrupt.</summary>
    public IrqLine Irq(int gsi)
    {
        IrqLine wire = board.Irq(gsi);
        OnLeave(() =>
        {
            wire.Set(false);
            board.RemoveIrq(gsi, wire);
        });
        return wire;
    }

    public void MapPorts(ulong at, MemoryRegion region, int priority = 0) =>
        Map(board.Ports.Root, at, region, priority);

    public void MapMemory(ulong at, MemoryRegion region, int priority = 0) =>
        Map(board.Memory.Root, at, region, priority);

    /// <summary>In a container of another's, such as a bus's memory.</summary>
    public void Map(MemoryRegion container, ulong at, MemoryRegion region, int priority = 0)
    {
        container.Map(at, region, priority);
        OnLeave(() => container.Unmap(region));
    }

    /// <summary>Shows memory beside that of -m to the guest, and has nobody else use the object.</summary>
    /// <param name="take">Keeps the address that was found.</param>
    public void PlaceMemory(IMemoryDevice device, MemoryRegion region, in MemoryWish wish, Action<ulong> take)
    {
        ulong at = board.FindPlace(device, wish);
        take(at);
        MapMemory(at, region);
        board.AddMemory(device);
        device.Memory.IsMapped = true;
        OnLeave(() =>
        {
            board.RemoveMemory(device);
            device.Memory.IsMapped = false;
        });
    }

    /// <summary>Memory that goes with the device: of a ROM, say.</summary>
    public GuestRam Ram(string name, ulong size)
    {
        var ram = new GuestRam(name, size);
        OnLeave(ram.Dispose);
        return ram;
    }

    // A missing or already used one throws ConfigurationException.

    public BlockBackend Drive(string id)
    {
        BlockBackend drive = board.TakeDrive(id, owner);
        drive.Errors.Failed = (operation, action, errno) => board.Post(() =>
        {
            board.Raise(new BlockIoErrorEvent(drive, operation, action, errno));
            if (action == ErrorAction.Stop) board.RequestPause("io-error");
        });
        OnLeave(() =>
        {
            drive.Forget();
            board.ReleaseDrive(id);
        });
        return drive;
    }

    public ICharBackend Chardev(string id)
    {
        ICharBackend chardev = board.TakeChardev(id, owner);
        OnLeave(() =>
        {
            chardev.Connect(null);
            board.ReleaseChardev(id);
        });
        return chardev;
    }

    /// <summary>The card closes by itself, by <see cref="OnLeave"/>, the queues that it opens.</summary>
    public NetBackend Netdev(string id)
    {
        NetBackend netdev = board.TakeNetdev(id, owner);
        OnLeave(() => board.ReleaseNetdev(id));
        return netdev;
    }

    public ITpm Tpm(string id)
    {
        ITpm tpm = board.TakeTpm(id, owner);
        OnLeave(() => board.ReleaseTpm(id));
        return tpm;
    }

    /// <summary>A stream to the audiodev of that id, or to whichever there is.</summary>
    public PlaybackStream Playback(string? audiodev, string name, IAudioSource source)
    {
        PlaybackStream stream = board.FindAudio(audiodev, owner).OpenPlayback(board.Clock, name, source);
        OnLeave(stream.Dispose);
        return stream;
    }

    /// <inheritdoc cref="Playback"/>
    public RecordingStream Recording(string? audiodev, string name, IAudioTarget target)
    {
        RecordingStream stream = board.FindAudio(audiodev, owner).OpenRecording(board.Clock, name, target);
        OnLeave(stream.Dispose);
        return stream;
    }

    /// <summary>What -object made.</summary>
    /// <param name="what">As messages call it: "source of entropy".</param>
    public T Object<T>(string id, string what) where T : class
    {
        T found = board.FindObject<T>(id, what, owner);
        OnLeave(() => board.ReleaseObject(id));
        return found;
    }

    /// <summary>The loop of an -object iothread, or the one that moves data where users name none.</summary>
    public IoLoop Loop(string? iothread) => iothread == null ? board.DataLoop
        : Object<IoThread>(iothread, "thread that moves data").Loop;

    /// <summary>The loop of a thread that is the device's.</summary>
    public IoLoop OwnLoop(string name)
    {
        if (board.NewThread(name) is not { } thread) return board.DataLoop;
        OnLeave(thread.Dispose);
        return thread.Loop;
    }

    /// <summary>Makes a display known to VNC and screendump; the first is the primary.</summary>
    public void AddDisplay(IDisplaySource display)
    {
        board.AddDisplay(display);
        OnLeave(() => board.RemoveDisplay(display));
    }

    /// <summary>Writes down how something else is given back.</summary>
    public void OnLeave(Action giveBack) => _taken.Push(giveBack);

    public void Dispose()
    {
        while (_taken.TryPop(out Action? giveBack)) giveBack();
    }

    sealed class SiteClock(DeviceSite site, IVirtualClock clock) : IVirtualClock
    {
        public long Nanoseconds => clock.Nanoseconds;

        public IVmTimer CreateTimer(Action onExpired)
        {
            IVmTimer timer = clock.CreateTimer(onExpired);
            site.OnLeave(timer.Cancel);
            return timer;
        }
    }
}
