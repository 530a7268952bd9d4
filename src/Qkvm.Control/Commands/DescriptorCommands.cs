using System.Text.Json.Serialization;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Control.Commands;

public sealed record FdNameArguments(string Fdname);

public sealed record AddFdArguments(int? FdsetId = null, string? Opaque = null);

public sealed record AddFdInfo(int FdsetId, int Fd);

public sealed record RemoveFdArguments(int FdsetId, int? Fd = null);

public sealed record FdSetInfo(int FdsetId, IReadOnlyList<FdSetFdInfo> Fds);

public sealed record FdSetFdInfo(int Fd, string? Opaque);

/// <summary>Descriptors that a client passes with its command: by name for fd=, or in a set for
/// /dev/fdset/N.</summary>
static class DescriptorCommands
{
    public static readonly Command GetFd = new Command<FdNameArguments, Nothing>("getfd", DescriptorJson.Default,
        static (context, arguments) =>
    {
        int fd = Passed(context);
        if (arguments.Fdname.Length == 0 || char.IsAsciiDigit(arguments.Fdname[0]))
        {
            Libc.close(fd);
            throw new CommandException("Parameter 'fdname' expects a name not starting with a digit");
        }
        context.Host.Descriptors.Keep(arguments.Fdname, fd);
        return Nothing.Value;
    })
    {
        Human = new("getfd", "getfd name", "receive a file descriptor via SCM rights and assign it a name",
            words => new FdNameArguments(words.Word())),
    };

    public static readonly Command CloseFd = new Command<FdNameArguments, Nothing>("closefd", DescriptorJson.Default,
        static (context, arguments) => context.Host.Descriptors.Close(arguments.Fdname) ? Nothing.Value
            : throw new CommandException($"File descriptor named '{arguments.Fdname}' not found"))
    {
        Human = new("closefd", "closefd name", "close a file descriptor previously passed via SCM rights",
            words => new FdNameArguments(words.Word())),
    };

    public static readonly Command AddFd = new Command<AddFdArguments, AddFdInfo>("add-fd", DescriptorJson.Default,
        static (context, arguments) =>
    {
        int fd = Passed(context);
        if (arguments.FdsetId is not < 0)
            return new AddFdInfo(DescriptorSets.Add(arguments.FdsetId, fd, arguments.Opaque), fd);
        Libc.close(fd);
        throw new CommandException("Parameter 'fdset-id' expects a non-negative value");
    });

    public static readonly Command RemoveFd = new Command<RemoveFdArguments, Nothing>("remove-fd",
        DescriptorJson.Default, static (_, arguments) =>
        DescriptorSets.Remove(arguments.FdsetId, arguments.Fd) ? Nothing.Value
            : throw new CommandException($"File descriptor named 'fdset-id:{arguments.FdsetId}" +
                $"{(arguments.Fd is { } fd ? $", fd:{fd}" : "")}' not found"));

    public static readonly Command Query = new Command<Nothing, IReadOnlyList<FdSetInfo>>("query-fdsets",
        DescriptorJson.Default, static (_, _) => [.. DescriptorSets.All.GroupBy(m => m.Set)
            .Select(set => new FdSetInfo(set.Key, [.. set.Select(m => new FdSetFdInfo(m.Fd, m.Opaque))]))]);

    static int Passed(CommandContext context) => context.TakeDescriptor() is >= 0 and var fd ? fd
        : throw new CommandException("No file descriptor supplied via SCM_RIGHTS");
}

[JsonSerializable(typeof(FdNameArguments))]
[JsonSerializable(typeof(AddFdArguments))]
[JsonSerializable(typeof(AddFdInfo))]
[JsonSerializable(typeof(RemoveFdArguments))]
[JsonSerializable(typeof(IReadOnlyList<FdSetInfo>))]
sealed partial class DescriptorJson : JsonSerializerContext;
