using System.Text.Json.Serialization;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <param name="Val">The first address.</param>
/// <param name="CpuIndex">Whose virtual addresses; the monitor's own by default.</param>
public sealed record SaveMemoryArguments(ulong Val, ulong Size, string Filename, int? CpuIndex = null);

public sealed record SavePhysicalArguments(ulong Val, ulong Size, string Filename);

/// <summary>memsave and pmemsave: guest memory into a file.</summary>
static class SaveMemory
{
    const int PageSize = 4096;

    public static readonly Command Virtual =
        new Command<SaveMemoryArguments, Nothing>("memsave", SaveMemoryJson.Default, (context, arguments) =>
    {
        IReadOnlyList<IVCpu> cpus = context.Machine.Cpus;
        IVCpu cpu = arguments.CpuIndex is not { } index ? context.Cpu
            : index >= 0 && index < cpus.Count ? cpus[index]
            : throw new CommandException($"Invalid parameter 'cpu-index', expected: a CPU number");
        Save(context, arguments.Val, arguments.Size, arguments.Filename, cpu);
        return Nothing.Value;
    })
    {
        Human = new("memsave", "addr size file", "save to disk virtual memory dump starting at 'addr' of size 'size'",
            words => new SaveMemoryArguments(words.Number(), words.Number(), words.Word("filename"))),
    };

    public static readonly Command Physical =
        new Command<SavePhysicalArguments, Nothing>("pmemsave", SaveMemoryJson.Default, (context, arguments) =>
    {
        Save(context, arguments.Val, arguments.Size, arguments.Filename, null);
        return Nothing.Value;
    })
    {
        Human = new("pmemsave", "addr size file", "save to disk physical memory dump starting at 'addr' of size 'size'",
            words => new SavePhysicalArguments(words.Number(), words.Number(), words.Word("filename"))),
    };

    /// <param name="cpu">Whose virtual addresses; null for physical ones.</param>
    static void Save(CommandContext context, ulong start, ulong size, string path, IVCpu? cpu)
    {
        using FileStream file = OutputFile.Create(path);
        var page = new byte[PageSize];
        for (ulong at = start; size > 0;)
        {
            int count = (int)Math.Min(size, PageSize - at % PageSize);
            ulong physical = at;
            if (cpu?.TryTranslate(at, out physical) == false)
                throw new CommandException($"Invalid addr 0x{at:x16}/size {size} specified");
            context.Machine.Board.Memory.Read(physical, page.AsSpan(0, count));
            file.Write(page, 0, count);
            at += (ulong)count;
            size -= (ulong)count;
        }
    }
}

[JsonSerializable(typeof(SaveMemoryArguments))]
[JsonSerializable(typeof(SavePhysicalArguments))]
sealed partial class SaveMemoryJson : JsonSerializerContext;
