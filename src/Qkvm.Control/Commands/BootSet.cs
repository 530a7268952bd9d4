using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>boot_set: -boot's letters for the next start.</summary>
static class BootSet
{
    const int MostDevices = 3;

    public static readonly Command Command = new HumanCommand("boot_set", "bootdevice",
        "define new values for the boot device list", static (monitor, words) =>
        {
            string letters = words.Word();
            words.End();
            for (int i = 0; i < letters.Length; i++)
            {
                if (letters[i] is < 'a' or > 'p') throw new MonitorException($"Invalid boot device '{letters[i]}'");
                if (letters.IndexOf(letters[i]) < i)
                    throw new MonitorException($"Boot device '{letters[i]}' was given twice");
            }
            if (letters.Length > MostDevices) throw new MonitorException("Too many boot devices for PC");
            char unknown = letters.FirstOrDefault(letter => letter is not ('a' or 'b' or 'c' or 'd' or 'n'));
            if (unknown != '\0') throw new MonitorException($"Invalid boot device for PC: '{unknown}'");
            try { monitor.Context.Machine.SetBootOrder(letters); }
            catch (CommandException e) { throw new MonitorException(e.Message); }
            monitor.Write($"boot device list now set to {letters}\n");
        });
}
