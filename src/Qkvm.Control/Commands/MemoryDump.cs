using System.Text;
using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

static class MemoryDump
{
    public static readonly Command Virtual = new HumanCommand("x", "/fmt addr", "virtual memory dump starting at " +
        "'addr'", (m, w) => Dump(m, w, true));
    public static readonly Command Physical = new HumanCommand("xp", "/fmt addr", "physical memory dump starting at " +
        "'addr'", (m, w) => Dump(m, w, false));

    static void Dump(IMonitor monitor, MonitorArguments words, bool isVirtual)
    {
        DumpFormat format = DumpFormat.Parse(words, "xw", 'x');
        ulong at = words.Number();
        words.End();
        if (format.Form == 'i')
        {
            monitor.Write(Disassembly.Of(monitor.Context, at, format.Count,
                (ulong address, out byte value) =>
                {
                    bool isThere = TryRead(monitor.Context, address, 1, isVirtual, out ulong read);
                    value = (byte)read;
                    return isThere;
                }));
            return;
        }
        int perLine = format.Form == 'c' ? 16 : Math.Max(1, 16 / format.Size);
        var text = new StringBuilder();
        for (int i = 0; i < format.Count; i++, at += (ulong)format.Size)
        {
            if (i % perLine == 0) text.Append(i > 0 ? "\n" : "").Append(at.ToString("x16")).Append(':');
            if (!TryRead(monitor.Context, at, format.Size, isVirtual, out ulong value))
            {
                text.Append(" Cannot access memory");
                break;
            }
            text.Append(' ').Append(format.Text(value));
        }
        monitor.Write(text.Append('\n').ToString());
    }

    static bool TryRead(CommandContext context, ulong at, int size, bool isVirtual, out ulong value)
    {
        value = 0;
        for (int i = 0; i < size; i++)
        {
            ulong physical = at + (ulong)i;
            if (isVirtual && !context.Cpu.TryTranslate(physical, out physical)) return false;
            value |= context.Machine.Board.Memory.Read(physical, 1) << (i * 8);
        }
        return true;
    }
}
