namespace Qkvm.Img.Nbd;

/// <summary>An option of the tool.</summary>
/// <param name="Value">What its value is called; null where it takes none.</param>
/// <param name="Refusal">Why it cannot be used; null for what is built.</param>
sealed record NbdToolOption(char Short, string Long, string? Value, string Help, string? Refusal = null)
{
    public Option Option { get; } = new(Short, Long, Value != null);
}

public sealed partial class NbdTool
{
    const string Offset = "offset", ReadOnly = "read-only", Persistent = "persistent", Shared = "shared",
        Format = "format", ExportName = "export-name", Description = "description", Bind = "bind", Port = "port",
        Socket = "socket", ListExports = "list", ImageOpts = "image-opts", Fork = "fork", PidFile = "pid-file",
        TlsCreds = "tls-creds", TlsHostname = "tls-hostname", ObjectOption = "object", Cache = "cache",
        NoCache = "nocache", Aio = "aio", Discard = "discard", DetectZeroes = "detect-zeroes",
        Depth = "allocation-depth", Bitmap = "bitmap", Verbose = "verbose", Version = "version", HelpOption = "help";

    static readonly NbdToolOption[] s_options =
    [
        new('h', HelpOption, null, "display this help and exit"),
        new('V', Version, null, "output version information and exit"),
        new('p', Port, "PORT", "port to listen on (default '10809')"),
        new('b', Bind, "IFACE", "interface to bind to (default '0.0.0.0')"),
        new('k', Socket, "PATH", "path to the unix socket, instead of a port"),
        new('e', Shared, "NUM", "device can be shared by NUM clients (default '1'), 0 for any number"),
        new('t', Persistent, null, "don't exit on the last connection"),
        new('v', Verbose, null, "say on stderr who comes and goes"),
        new('x', ExportName, "NAME", "expose export by name (default is empty string)"),
        new('D', Description, "TEXT", "export a human-readable description"),
        new('o', Offset, "OFFSET", "offset into the image"),
        new('A', Depth, null, "expose the allocation depth"),
        new('B', Bitmap, "NAME", "expose a persistent dirty bitmap"),
        new('L', ListExports, null, "list exports available from another NBD server"),
        new('\0', ObjectOption, "type,id=ID,...", "define an object: secret, tls-creds-x509"),
        new('\0', TlsCreds, "ID", "use id of an earlier --object to provide TLS"),
        new('\0', TlsHostname, "NAME", "of the server's certificate, with --list"),
        new('\0', Fork, null, "fork off the server process and exit the parent once the server is running"),
        new('\0', PidFile, "PATH", "store the server's process ID in the given file"),
        new('f', Format, "FORMAT", "set image format (raw, qcow2, ...)"),
        new('r', ReadOnly, null, "export read-only"),
        new('n', NoCache, null, "disable host cache"),
        new('\0', Cache, "MODE", "'none', 'writeback' (default), 'writethrough', 'directsync' or 'unsafe'"),
        new('\0', Aio, "MODE", "taken, no effect: native, io_uring or threads"),
        new('\0', Discard, "MODE", "set discard mode (ignore, unmap)"),
        new('\0', DetectZeroes, "MODE", "set detect-zeroes mode (off, on, unmap)"),
        new('\0', ImageOpts, null, "treat FILE as a full set of image options"),
        new('c', "connect", "DEV", "", "the kernel's devices are nbd-client's: serve with -k PATH, then "
            + "nbd-client -unix PATH /dev/nbd0"),
        new('d', "disconnect", null, "", "the kernel's devices are nbd-client's: nbd-client -d /dev/nbd0"),
        new('s', "snapshot", null, "", "is not built yet; make an overlay: qkvm img create -f qcow2 -b FILE -F FORMAT "
            + "OVERLAY"),
        new('l', "load-snapshot", "SNAPSHOT", "", "is not built yet; copy the snapshot: qkvm img convert -l SNAPSHOT"),
        new('\0', "tls-authz", "ID", "", "is not built yet; certificates that the authority has signed are let in"),
        new('T', "trace", "EVENTS", "", "is not built yet; leave it out"),
        new('\0', "selinux-label", "LABEL", "", "is not built yet; leave it out"),
    ];

    static Option OptionOf(string name) => Array.Find(s_options, option => option.Long == name)!.Option;

    bool Has(string name) => _arguments.Has(OptionOf(name));

    string? Text(string name) => _arguments.Text(OptionOf(name));

    IEnumerable<string> Texts(string name) => _arguments.Texts(OptionOf(name));

    void PrintHelp(TextWriter output)
    {
        output.Write($"Usage: {_program} [OPTIONS] FILE\n  or:  {_program} -L [OPTIONS]\n"
            + "Serves disk images to NBD clients, with the command line of qemu-nbd\n\n");
        foreach (NbdToolOption option in s_options)
        {
            if (option.Refusal != null) continue;
            string shown = (option.Short == '\0' ? "      " : $"  -{option.Short}, ") + $"--{option.Long}"
                + (option.Value == null ? "" : $"={option.Value}");
            output.Write(shown.Length < 28 ? $"{shown,-28}{option.Help}\n" : $"{shown}\n{"",-28}{option.Help}\n");
        }
    }
}
