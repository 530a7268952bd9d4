using Qkvm.Core.Accel;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;

namespace Qkvm.Control.Dump;

/// <summary>A range of the guest's physical memory.</summary>
/// <param name="Offset">Of its first byte in <paramref name="Ram"/>.</param>
readonly record struct DumpBlock(ulong Start, ulong Length, GuestRam Ram, ulong Offset)
{
    public ulong End => Start + Length;
}

/// <summary>What a dump shows of a machine that stands: its memory and the registers of its vCPUs.</summary>
sealed class DumpSource
{
    readonly IMachine _machine;

    /// <summary>Main loop, under the machine lock, while the machine stands.</summary>
    /// <param name="begin">The first physical address; only memory from there on is shown.</param>
    /// <param name="length">Bytes from <paramref name="begin"/>.</param>
    public DumpSource(IMachine machine, ulong begin = 0, ulong length = ulong.MaxValue)
    {
        _machine = machine;
        Registers = [.. machine.Cpus.Select(cpu => cpu.ReadRegisters())];
        Note = GuestNote.Of(machine);
        ulong end = length > ulong.MaxValue - begin ? ulong.MaxValue : begin + length;
        var blocks = new List<DumpBlock>();
        foreach (FlatRange range in machine.Board.Memory.View.Ranges)
        {
            ulong from = Math.Max(range.Start, begin), to = Math.Min(range.End, end);
            if (range.Ram is not { } ram || from >= to) continue;
            ulong offset = range.RamOffset + (from - range.Start);
            if (blocks.Count > 0 && blocks[^1] is var last && last.End == from && last.Ram == ram
                && last.Offset + last.Length == offset)
                blocks[^1] = last with { Length = last.Length + (to - from) };
            else blocks.Add(new DumpBlock(from, to - from, ram, offset));
        }
        Blocks = blocks;
    }

    /// <summary>Sorted, disjoint.</summary>
    public IReadOnlyList<DumpBlock> Blocks { get; }
    public IReadOnlyList<CpuRegisters> Registers { get; }
    public GuestNote Note { get; }
    public AddressSpace Memory => _machine.Board.Memory;

    /// <summary>Bytes.</summary>
    public ulong Length => Blocks.Aggregate(0UL, static (sum, block) => sum + block.Length);

    /// <summary>The first vCPU is in long mode: registers are those of a 64-bit program.</summary>
    public bool Is64Bit => Registers is [var first, ..] && first.IsLongMode;

    /// <summary>Copies bytes of a block. Memory that was unplugged meanwhile reads as zeros; after the machine's end it
    /// never completes.</summary>
    /// <remarks>On the main loop, where no memory goes away meanwhile: keep the pieces small.</remarks>
    public Task ReadAsync(DumpBlock block, ulong at, Memory<byte> into)
    {
        var copied = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _machine.Board.Post(() =>
        {
            if (block.Ram.HostAddress == 0) into.Span.Clear();
            else block.Ram.Span(block.Offset + at, into.Length).CopyTo(into.Span);
            copied.SetResult();
        });
        return copied.Task;
    }
}
