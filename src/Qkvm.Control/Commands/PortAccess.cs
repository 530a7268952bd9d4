using Qkvm.Control.Hmp;

namespace Qkvm.Control.Commands;

static class PortAccess
{
    const int LargestAccess = 4;

    public static readonly Command In = new HumanCommand("i", "/fmt addr", "I/O port read", (monitor, words) =>
    {
        (DumpFormat format, ulong port) = Parse(words);
        words.End();
        char letter = format.Size switch { 1 => 'b', 2 => 'w', _ => 'l' };
        monitor.Write($"port{letter}[0x{port:x4}] = " +
            $"{format.Text(monitor.Context.Machine.Board.Ports.Read(port, format.Size))}\n");
    });

    public static readonly Command Out = new HumanCommand("o", "/fmt addr value", "I/O port write", (monitor, words) =>
    {
        (DumpFormat format, ulong port) = Parse(words);
        ulong value = words.Number();
        words.End();
        monitor.Context.Machine.Board.Ports.Write(port, format.Size, value);
    });

    static (DumpFormat Format, ulong Port) Parse(MonitorArguments words)
    {
        DumpFormat format = DumpFormat.Parse(words, "xw", 'x');
        return (format with { Size = Math.Min(format.Size, LargestAccess) }, words.Number() & 0xFFFF);
    }
}
