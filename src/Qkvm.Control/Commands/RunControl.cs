namespace Qkvm.Control.Commands;

/// <summary>Commands that start, stop and end the machine.</summary>
static class RunControl
{
    public static readonly Command Stop = Plain("stop", "stop|s", "stop emulation", context => context.Machine.Pause());
    public static readonly Command Continue =
        Plain("cont", "cont|c", "resume emulation", context => context.Machine.Resume());
    public static readonly Command Reset =
        Plain("system_reset", "system_reset", "reset the system", context => context.Machine.Reset());
    public static readonly Command PowerDown = Plain("system_powerdown", "system_powerdown", "send system power " +
        "down event",
        context => context.Machine.PowerDown());
    public static readonly Command Quit = Plain("quit", "quit|q", "quit the emulator",
        // the answer goes out first
        context => context.Machine.Board.RequestShutdown(Core.Machine.ShutdownCause.HostQuit));
    public static readonly Command WakeUp = Plain("system_wakeup", "system_wakeup", "wakeup guest from suspend",
        static context => context.Machine.WakeUp());
    public static readonly Command InjectNmi =
        Plain("inject-nmi", "nmi", "inject an NMI", context => context.Machine.InjectNmi());

    static Command<Nothing, Nothing> Plain(string name, string human, string help, Action<CommandContext> run) =>
        new(name, NothingJson.Default, (context, _) => { run(context); return Nothing.Value; })
        {
            Human = new(human, "", help),
        };
}
