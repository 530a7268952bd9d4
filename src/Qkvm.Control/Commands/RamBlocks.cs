using Qkvm.Host;

namespace Qkvm.Control.Commands;

/// <summary>info ramblock: the guest's memory as the host holds it.</summary>
static class RamBlocks
{
    public static readonly Command Command = new HumanCommand("info ramblock", "",
        "Display system ramblock information", static (monitor, words) =>
        {
            words.End();
            monitor.Write($"{"Block Name",24} {"PSize",8}  {"Offset",18} {"Used",18} {"Total",18}\n");
            ulong offset = 0;
            foreach (GuestRam ram in monitor.Context.Machine.RamBlocks)
            {
                long page = (long)(ram.File?.PageSize ?? GuestRam.PageSize);
                monitor.Write($"{ram.Name,24} {ByteCount.Text(page),8}  0x{offset:x16} 0x{ram.Size:x16} "
                    + $"0x{ram.Size:x16}\n");
                offset += ram.Size;
            }
        });
}
