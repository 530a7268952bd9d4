using Qkvm.Control.Hmp;
using Qkvm.Core.Input;

namespace Qkvm.Control.Commands;

static class MouseInput
{
    public static readonly Command Move = new HumanCommand("mouse_move", "dx dy [dz]", "send mouse move events",
        (monitor, words) =>
    {
        int dx = Signed(words.Word()), dy = Signed(words.Word()), dz = Signed(words.Optional());
        words.End();
        monitor.Context.Machine.Board.Input.Move(dx, dy, dz);
    });

    public static readonly Command Button = new HumanCommand("mouse_button", "state", "change mouse button state " +
        "(1=L, 2=M, 4=R)", (monitor, words) =>
    {
        ulong state = words.Number();
        words.End();
        MouseButtons buttons = ((state & 1) != 0 ? MouseButtons.Left : 0) | ((state & 2) != 0 ? MouseButtons.Middle : 0)
            | ((state & 4) != 0 ? MouseButtons.Right : 0);
        monitor.Context.Machine.Board.Input.Press(buttons);
    });

    /// <summary>As QEMU reads it: what is no number is 0.</summary>
    static int Signed(string? word) => int.TryParse(word, out int value) ? value : 0;
}
