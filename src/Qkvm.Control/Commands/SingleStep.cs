using Qkvm.Control.Hmp;
using Qkvm.Core.Accel;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>singlestep: the software CPU runs one instruction at a time.</summary>
static class SingleStep
{
    public static readonly Command Command = new HumanCommand("singlestep", "[on|off]",
        "run emulation in singlestep mode or switch to normal mode", static (monitor, words) =>
        {
            string? word = words.Optional();
            words.End();
            if (word is not (null or "on" or "off")) throw new MonitorException($"unexpected option {word}");
            IMachine machine = monitor.Context.Machine;
            if (machine.Accelerator is not ISingleStepping accelerator)
                throw new CommandException("This accelerator does not support single stepping; the software CPU does");
            machine.WhileStill(() => accelerator.OneInstruction = word != "off");
        }) { Completes = [Completions.OnOff] };
}
