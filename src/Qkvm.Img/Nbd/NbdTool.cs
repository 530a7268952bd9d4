using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Qkvm.Backends.Objects;
using Qkvm.Core.Block;
using Qkvm.Core.Block.Images;
using Qkvm.Host;
using Qkvm.Host.Sockets;
using Qkvm.Storage.Drivers;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Graph;
using Qkvm.Storage.Nbd;

namespace Qkvm.Img.Nbd;

/// <summary><c>qkvm nbd</c>: serves an image without a machine, with qemu-nbd's command line.</summary>
public sealed partial class NbdTool
{
    /// <summary>The word that begins its command line.</summary>
    public const string Word = "nbd";

    /// <summary>Whether a link of that name makes the program this tool: QEMU's names may lead here.</summary>
    public static bool IsLink(string name) => name is "qkvm-nbd" or "qemu-nbd";

    const string DefaultPort = "10809", AnyInterface = "0.0.0.0";
    const int FirstInherited = 3;                                  // sd_listen_fds(3)

    readonly string _program;
    readonly Arguments _arguments;
    readonly ToolObjects _objects = new();
    readonly Catalogue<BlockDriverModel> _drivers;
    readonly BlockFactory _factory;

    NbdTool(string program, Arguments arguments, Catalogue<BlockDriverModel> drivers)
    {
        (_program, _arguments, _drivers) = (program, arguments, drivers);
        _factory = new BlockFactory(drivers, line => Console.Error.Write($"WARNING: {line}\n"))
        {
            Secrets = _objects.Secret,
            Credentials = _objects.Credentials,
        };
    }

    /// <param name="isDaemon">This process has been started to become the daemon.</param>
    /// <param name="program">As messages call it.</param>
    /// <returns>The exit code.</returns>
    public static int Run(string[] words, Catalogue<BlockDriverModel> drivers, bool isDaemon,
        string program = $"qkvm {Word}")
    {
        try
        {
            Arguments arguments = Arguments.Parse(words, [.. s_options.Select(option => option.Option)]);
            foreach (NbdToolOption option in s_options)
                if (option.Refusal is { } why && arguments.Has(option.Option))
                    throw new ConfigurationException($"--{option.Long}: {why}");
            return new NbdTool(program, arguments, drivers).Run(words, isDaemon);
        }
        catch (ToolException e)
        {
            Console.Error.Write($"{program}: {e.Message}\nTry `{program} --help' for more information.\n");
            return 1;
        }
        catch (Exception e) when (e is ConfigurationException or HostException or BlockException)
        {
            Console.Error.Write($"{program}: {e.Message}\n");
            return 1;
        }
    }

    int Run(string[] words, bool isDaemon)
    {
        if (Has(HelpOption))
        {
            PrintHelp(Console.Out);
            return 0;
        }
        if (Has(Version))
        {
            Console.Out.Write($"qkvm {typeof(NbdTool).Assembly.GetName().Version?.ToString(3)}, with the command line "
                + "of qemu-nbd 7.2\n");
            return 0;
        }
        foreach (string text in Texts(ObjectOption)) _objects.Add(text);
        if (Has(ListExports)) return List();
        if (_arguments.Names is not [var file])
            throw new ToolException("Invalid number of arguments");
        if (!Has(Fork) || isDaemon) return Serve(file);
        return Daemon.Launch([Word, .. words]);
    }

    int List()
    {
        if (_arguments.Names.Count > 0) throw new ConfigurationException("List mode is incompatible with a file name");
        foreach (string other in new[] { ExportName, Description, Bitmap, Depth, Offset })
            if (Has(other))
                throw new ConfigurationException("List mode is incompatible with per-device settings");
        string? path = Text(Socket);
        string host = Text(Bind) ?? AnyInterface;
        SocketAddress address = path != null ? new UnixAddress(path) : new InternetAddress(host, PortNumber());
        TlsCredentials? credentials = Text(TlsCreds) is { } id ? CredentialsOf(id, isServer: false) : null;
        NbdListing.Print(address, credentials, Text(TlsHostname) ?? (path == null ? host : null),
            Console.Out);
        return 0;
    }

    int Serve(string file)
    {
        var options = new NbdServerOptions(SharedBy(),
            Text(TlsCreds) is { } id ? CredentialsOf(id, isServer: true) : null);
        if (Has(TlsHostname))
            throw new ConfigurationException("TLS hostname is only supported with export list");
        using var loop = new EventLoop();
        NbdExport export = MakeExport(OpenDisk(file));
        NbdServer? server = null;
        try
        {
            server = Listen(loop, options);
            server.Add(export);
            server.ClientLeft = (left, wasServed) =>
            {
                if (Has(Verbose)) Console.Error.Write($"{_program}: a client has gone; {left} left\n");
                if (left == 0 && wasServed && !Has(Persistent)) loop.Stop();
            };
            using IDisposable terminate = OnSignal(PosixSignal.SIGTERM, loop),
                interrupt = OnSignal(PosixSignal.SIGINT, loop), hangUp = OnSignal(PosixSignal.SIGHUP, loop);
            if (Text(PidFile) is { } pidFile) WritePid(pidFile);
            server.Start();
            Daemon.Detach();
            Daemon.Ready();
            loop.Run();
            return 0;
        }
        finally
        {
            server?.Dispose();
            export.CloseAsync().AsTask().GetAwaiter().GetResult();
            _factory.DisposeAsync().AsTask().GetAwaiter().GetResult();
        }
    }

    static PosixSignalRegistration OnSignal(PosixSignal signal, EventLoop loop) =>
        PosixSignalRegistration.Create(signal, context =>
        {
            context.Cancel = true;
            loop.Stop();
        });

    static void WritePid(string path)
    {
        try { File.WriteAllText(path, $"{Environment.ProcessId}\n"); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"cannot create PID file '{path}': {e.Message}", e);
        }
    }

    NbdServer Listen(EventLoop loop, NbdServerOptions options)
    {
        SocketAddress address = IsActivated() ? new DescriptorAddress(FirstInherited)
            : Text(Socket) is { } path ? new UnixAddress(Path.GetFullPath(path))
            : new InternetAddress(Text(Bind) ?? AnyInterface, PortNumber());
        try { return new NbdServer(address, loop, options); }
        catch (HostException e)
        {
            throw new ConfigurationException($"Failed to bind socket to {address}: {Libc.Message(e.Errno)}", e);
        }
        catch (SocketException e)
        {
            throw new ConfigurationException($"address resolution failed for {address}: {e.Message}", e);
        }
    }

    /// <summary>Whoever started us listens already, and has told so. Spec: sd_listen_fds(3).</summary>
    bool IsActivated()
    {
        if (Environment.GetEnvironmentVariable("LISTEN_PID")
            != Environment.ProcessId.ToString(CultureInfo.InvariantCulture)) return false;
        string? count = Environment.GetEnvironmentVariable("LISTEN_FDS");
        if (count != "1")
            throw new ConfigurationException($"qemu-nbd does not support socket activation with more than one socket, "
                + $"and LISTEN_FDS is '{count}'");
        foreach (string other in new[] { Socket, Port, Bind })
            if (Has(other))
                throw new ConfigurationException($"--{other} cannot be used beside socket activation");
        return true;
    }

    int PortNumber() => Number(Port, DefaultPort, 0, ushort.MaxValue, $"Invalid port '{Text(Port)}'");

    int SharedBy() => Number(Shared, "1", 0, int.MaxValue, $"Invalid shared device number '{Text(Shared)}'");

    int Number(string option, string fallback, int min, int max, string complaint) =>
        int.TryParse(Text(option) ?? fallback, NumberStyles.None, CultureInfo.InvariantCulture,
            out int value) && value >= min && value <= max ? value : throw new ConfigurationException(complaint);

    TlsCredentials CredentialsOf(string id, bool isServer)
    {
        try { return _factory.CredentialsOf(id, isServer); }
        catch (ConfigurationException e)
        {
            throw new ConfigurationException($"Failed to get TLS creds: {e.Message}", e);
        }
    }

    BlockDriver OpenDisk(string file)
    {
        bool isWritable = !Has(ReadOnly);
        string? format = Text(Format);
        if (format != null && _drivers.Find(format) == null)
            throw new ConfigurationException($"Failed to blk_new_open '{file}': Unknown driver '{format}'");
        if (Has(ImageOpts) && format != null)
            throw new ConfigurationException("--image-opts and -f are mutually exclusive");
        if (Has(Cache) && Has(NoCache))
            throw new ConfigurationException("-n and --cache can only be specified once");
        if (Text(Aio) is { } aio && aio is not ("native" or "io_uring" or "threads"))
            throw new ConfigurationException($"invalid aio mode `{aio}'");
        Options options;
        if (Has(ImageOpts)) options = Options.Parse(file, file);
        else if (file.StartsWith("json:", StringComparison.Ordinal)) options = Options.ParseJson(file[5..], file);
        else
        {
            options = new Options(file);
            options.Add("file.filename", file);
        }
        Add(options, "discard", Text(Discard) ?? "ignore", ["ignore", "off", "unmap", "on"], "discard mode");
        Add(options, "detect-zeroes", Text(DetectZeroes) ?? "off", ["off", "on", "unmap"],
            "detect-zeroes mode");
        var opening = new ImageOpening(format) { IsWritable = isWritable, Cache = CacheOf() };
        BlockDriver node;
        try { node = _factory.OpenImage(options, opening); }
        catch (Exception e) when (e is ConfigurationException or BlockException)
        {
            throw new ConfigurationException($"Failed to blk_new_open '{file}': {e.Message}", e);
        }
        return Text(Offset) is { } text ? From(node, text) : node;
    }

    static void Add(Options options, string name, string value, string[] values, string what)
    {
        if (!values.Contains(value)) throw new ConfigurationException($"Invalid {what} `{value}'");
        if (!options.Has(name)) options.Add(name, value);
    }

    CacheMode CacheOf()
    {
        string mode = Has(NoCache) ? "none" : Text(Cache) ?? "writeback";
        var options = new Options(_program);
        options.Add("cache", mode);
        try { return CacheMode.Of(options, CacheMode.Default); }
        catch (ConfigurationException) { throw new ConfigurationException($"Invalid cache mode `{mode}'"); }
    }

    static RawDriver From(BlockDriver node, string text)
    {
        if (!long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long offset))
            throw new ConfigurationException($"Invalid offset '{text}'");
        if (offset >= node.Length)
            throw new ConfigurationException(
                $"Offset ({offset}) cannot be greater than size of the containing file ({node.Length})");
        return new RawDriver(node, new NodeOptions { ReadOnly = node.IsReadOnly, Discard = true }, offset);
    }

    NbdExport MakeExport(BlockDriver node)
    {
        // The last one first, as qemu-nbd lists them.
        IReadOnlyList<IBitmap> bitmaps = NbdBitmaps.Find(node,
            Texts(Bitmap).Reverse().Select(static name => new BitmapName(null, name)), !Has(ReadOnly));
        return new NbdExport(Text(ExportName) ?? "", node, !Has(ReadOnly))
        {
            Description = Text(Description) ?? "",
            ShowsDepth = Has(Depth),
            Bitmaps = bitmaps,
        };
    }
}
