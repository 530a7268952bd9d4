using Qkvm.Core.Memory;

namespace Qkvm.Control.Commands;

static class Checksum
{
    const ulong MaxBytes = 1 << 30;

    public static readonly Command Command = new HumanCommand("sum", "addr size", "compute the checksum of a memory " +
        "region", (monitor, words) =>
    {
        ulong at = words.Number(), size = words.Number();
        words.End();
        AddressSpace memory = monitor.Context.Machine.Board.Memory;
        ushort sum = 0;
        for (ulong i = 0; i < size && i < MaxBytes; i++)
            sum = (ushort)((sum >> 1 | sum << 15) + (byte)memory.Read(at + i, 1));
        monitor.Write($"{sum:D5}\n");
    });
}
