using System.Text.Json.Serialization;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;

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
            : throw new CommandException("Invalid parameter 'cpu-index', expected: a CPU number");
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
        AddressSpace memory = context.Machine.Board.Memory;
        ulong limit = cpu == null ? End(memory) - Math.Min(start, End(memory)) : End(memory);
        if (size > limit)                                          // the machine stands still meanwhile
            throw new CommandException($"Invalid size {size}, expected: at most {limit}, where memory ends");
        OutputFile.Write(path, file => Save(memory, start, size, file, cpu));
    }

    static void Save(AddressSpace memory, ulong start, ulong size, FileStream file, IVCpu? cpu)
    {
        var page = new byte[PageSize];
        for (ulong at = start, done = 0; done < size;)
        {
            ulong count = Math.Min(size - done, PageSize - at % PageSize), physical = at;
            if (cpu?.TryTranslate(at, out physical) == false)
                throw new CommandException($"Invalid addr 0x{at:x16}/size {size - done} specified");
            ulong hole = cpu == null && file.CanSeek ? Hole(memory, at, size - done) : 0;
            if (hole > 0)
            {
                count = hole;
                file.Seek((long)hole - 1, SeekOrigin.Current);
                file.WriteByte(0);
            }
            else
            {
                memory.Read(physical, page.AsSpan(0, (int)count));
                file.Write(page, 0, (int)count);
            }
            at += count;
            done += count;
        }
    }

    static ulong End(AddressSpace memory) => memory.View.Ranges is [.., var last] ? last.End : 0;

    /// <summary>How many bytes from an address on nothing answers for: they take no place in the file.</summary>
    static ulong Hole(AddressSpace memory, ulong at, ulong most)
    {
        FlatView view = memory.View;
        if (view.TryFind(at, out _)) return 0;
        foreach (FlatRange range in view.Ranges)
            if (range.Start > at) return Math.Min(most, range.Start - at);
        return most;
    }
}

[JsonSerializable(typeof(SaveMemoryArguments))]
[JsonSerializable(typeof(SavePhysicalArguments))]
sealed partial class SaveMemoryJson : JsonSerializerContext;
