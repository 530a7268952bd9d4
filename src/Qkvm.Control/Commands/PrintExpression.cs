namespace Qkvm.Control.Commands;

static class PrintExpression
{
    public static readonly Command Command = new HumanCommand("print|p", "/fmt expr", "print expression value (use " +
        "$pc for the instruction pointer)",
        (monitor, words) =>
        {
            DumpFormat format = DumpFormat.Parse(words, "d", 'd') with { Size = 8 };
            ulong value = words.Number();
            words.End();
            monitor.Write(format.Text(value) + "\n");
        });
}
