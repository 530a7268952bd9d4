using Qkvm.Control.Hmp;
using Qkvm.Core.Input;

namespace Qkvm.Control.Commands;

static class MouseInput
{
    public static readonly Command Move = new HumanCommand("mouse_move", "dx dy [dz]", "send mouse move events",
        (monitor, words) =>
    {
        int dx = Signed(words, "dx"), dy = Signed(words, "dy"), dz = words.Left > 0 ? Signed(words, "dz") : 0;
        words.End();
        monitor.Context.Machine.Board.Input.Pointer(dx, dy, dz, MouseButtons.None);
    });

    public static readonly Command Button = new HumanCommand("mouse_button", "state", "change mouse button state " +
        "(1=L, 2=M, 4=R)", (monitor, words) =>
    {
        ulong state = words.Number("state");
        words.End();
        MouseButtons buttons = ((state & 1) != 0 ? MouseButtons.Left : 0) | ((state & 2) != 0 ? MouseButtons.Middle : 0)
            | ((state & 4) != 0 ? MouseButtons.Right : 0);
        monitor.Context.Machine.Board.Input.Pointer(0, 0, 0, buttons);
    });

    static int Signed(MonitorArguments words, string what) =>
        int.TryParse(words.Word(what), out int value) ? value : throw new MonitorException($"{what}: number expected");
}
