namespace Qkvm.Control.Commands;

static class TranslateAddress
{
    public static readonly Command Command = new HumanCommand("gva2gpa", "addr", "print the guest physical address " +
        "corresponding to a guest virtual address",
        (monitor, words) =>
        {
            ulong address = words.Number();
            words.End();
            monitor.Write(monitor.Context.Cpu.TryTranslate(address, out ulong physical) ? $"gpa: 0x{physical:x}\n"
                : "Unmapped\n");
        });
}
