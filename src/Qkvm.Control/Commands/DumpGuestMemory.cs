using System.Text.Json.Serialization;
using Microsoft.Win32.SafeHandles;
using Qkvm.Control.Dump;
using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

[JsonConverter(typeof(NamedEnum<DumpFileFormat>))]
public enum DumpFileFormat { Elf, KdumpZlib, KdumpLzo, KdumpSnappy }

/// <param name="Paging">Addresses are those of the guest's page tables.</param>
/// <param name="Protocol">"file:path", or "fd:name" of what getfd has taken.</param>
/// <param name="Detach">Answers at once; DUMP_COMPLETED tells the end.</param>
/// <param name="Begin">The first physical address, with <paramref name="Length"/>.</param>
public sealed record DumpGuestMemoryArguments(bool Paging, string Protocol, bool Detach = false, ulong? Begin = null,
    ulong? Length = null, DumpFileFormat Format = DumpFileFormat.Elf);

public sealed record DumpCapability(IReadOnlyList<DumpFileFormat> Formats);

/// <summary>dump-guest-memory: the guest's memory and registers into a file that debuggers read.</summary>
static class DumpGuestMemory
{
    const string File = "file:", Descriptor = "fd:";
    static readonly DumpFileFormat[] s_available = [DumpFileFormat.Elf, DumpFileFormat.KdumpZlib];

    public static readonly Command Dump = new Command<DumpGuestMemoryArguments, Nothing>("dump-guest-memory",
        DumpJson.Default, RunAsync)
    {
        Human = new("dump-guest-memory", "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
            "dump guest memory into file 'filename'.\n\t\t\t-p: do paging to get guest's memory mapping.\n\t\t\t"
            + "-d: return immediately (do not wait for completion).\n\t\t\t-z: dump in kdump-compressed format, with "
            + "zlib compression.\n\t\t\t-l: dump in kdump-compressed format, with lzo compression.\n\t\t\t-s: dump in "
            + "kdump-compressed format, with snappy compression.\n\t\t\t-w: dump in Windows crashdump format (can be "
            + "used instead of ELF-dump converting),\n\t\t\t    for Windows x86 and x64 guests with vmcoreinfo driver "
            + "only.\n\t\t\tbegin: the starting physical address.\n\t\t\tlength: the memory size, in bytes.", Parse),
        Completes = [Completions.Files],
    };

    public static readonly Command Query = new Command<Nothing, DumpProgress>("query-dump", DumpJson.Default,
        static (context, _) => context.Dump.Progress)
    {
        Human = new("info dump", "", "Display the latest dump status", null, static (monitor, dump) =>
        {
            monitor.Write($"Status: {dump.Status.ToString().ToLowerInvariant()}\n");
            if (dump.Status == DumpStatus.Active)
                monitor.Write(FormattableString.Invariant(
                    $"Finished: {100.0 * dump.Completed / Math.Max(1, dump.Total):f2} %\n"));
        }),
    };

    public static readonly Command Capability = new Command<Nothing, DumpCapability>(
        "query-dump-guest-memory-capability", DumpJson.Default, static (_, _) => new DumpCapability(s_available));

    static DumpGuestMemoryArguments Parse(MonitorArguments words)
    {
        const string Formats = "zlsw";
        string flags = words.Flags("pd" + Formats), formats = string.Concat(flags.Where(Formats.Contains).Distinct());
        if (formats.Length > 1) throw new CommandException("only one of '-z|-l|-s|-w' can be set");
        if (formats == "w") throw new CommandException("Windows crashdump format is not built yet; leave -w out");
        string path = words.Word("filename");
        ulong? begin = words.HasMore ? words.Number() : null, length = words.HasMore ? words.Number() : null;
        return new DumpGuestMemoryArguments(flags.Contains('p'), File + path, flags.Contains('d'), begin, length,
            formats switch
            {
                "z" => DumpFileFormat.KdumpZlib, "l" => DumpFileFormat.KdumpLzo, "s" => DumpFileFormat.KdumpSnappy,
                _ => DumpFileFormat.Elf,
            });
    }

    static async ValueTask<Nothing> RunAsync(CommandContext context, DumpGuestMemoryArguments arguments)
    {
        (bool isElf, IMachine machine) = (arguments.Format == DumpFileFormat.Elf, context.Machine);
        context.Dump.CheckIdle();
        if (!isElf && (arguments.Paging || (arguments.Begin ?? arguments.Length) != null))
            throw new CommandException("kdump-compressed format doesn't support paging or filter");
        if (arguments is { Begin: not null, Length: null }) throw Missing("length");
        if (arguments is { Begin: null, Length: not null }) throw Missing("begin");
        if (arguments.Length == 0) throw Invalid("length");
        if (!s_available.Contains(arguments.Format))
            throw new CommandException($"kdump-{(arguments.Format == DumpFileFormat.KdumpLzo ? "lzo" : "snappy")} is "
                + "not available now");
        Stream output = Open(context, arguments.Protocol);

        bool wasRunning = machine.State == RunState.Running;
        if (wasRunning) machine.Pause(RunState.SaveVm);
        var source = new DumpSource(machine, arguments.Begin ?? 0, arguments.Length ?? ulong.MaxValue);
        if (source.Blocks.Count == 0)
        {
            if (wasRunning) machine.Resume();
            await output.DisposeAsync().ConfigureAwait(false);
            throw new CommandException("dump: no guest memory to dump");
        }
        byte[] notes = [.. CpuNotes.Of(source.Registers, source.Is64Bit), .. source.Note.Bytes];
        Task<string?> ended = context.Dump.RunAsync(machine, source.Length, output, wasRunning,
            written => !isElf ? KdumpFile.WriteAsync(source, notes, output, written)
                : ElfCore.WriteAsync(source, arguments.Paging ? DumpMappings.Paged(source)
                    : DumpMappings.Plain(source), notes, output, written));
        if (!arguments.Detach && await ended.ConfigureAwait(false) is { } error) throw new CommandException(error);
        return Nothing.Value;
    }

    /// <exception cref="CommandException">The protocol is unknown, the name not taken, the file cannot be
    /// made.</exception>
    static FileStream Open(CommandContext context, string protocol)
    {
        if (protocol.StartsWith(File, StringComparison.Ordinal))
            return OutputFile.Create(protocol[File.Length..], UnixFileMode.UserRead);
        if (!protocol.StartsWith(Descriptor, StringComparison.Ordinal)) throw Invalid("protocol");
        string name = protocol[Descriptor.Length..];
        string unknown = $"File descriptor named '{name}' has not been found";
        if (name.Length == 0 || char.IsAsciiDigit(name[0])) throw new CommandException(unknown);
        int fd;
        try { fd = context.Host.Descriptors.Take(name, "protocol"); }
        catch (ConfigurationException e) { throw new CommandException(unknown, inner: e); }
        try { return new FileStream(new SafeFileHandle(fd, ownsHandle: true), FileAccess.Write, bufferSize: 0); }
        catch (Exception e) when (e is ArgumentException or IOException or UnauthorizedAccessException)
        {
            throw new CommandException($"File descriptor named '{name}' cannot be written: {e.Message}", inner: e);
        }
    }

    static CommandException Missing(string name) => new($"Parameter '{name}' is missing");
    static CommandException Invalid(string name) => new($"Invalid parameter '{name}'");
}

[JsonSerializable(typeof(DumpGuestMemoryArguments))]
[JsonSerializable(typeof(DumpProgress))]
[JsonSerializable(typeof(DumpCapability))]
sealed partial class DumpJson : JsonSerializerContext;
