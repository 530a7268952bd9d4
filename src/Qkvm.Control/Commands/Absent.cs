using Qkvm.Control.Hmp;
using Qkvm.Core.Machine;

namespace Qkvm.Control.Commands;

/// <summary>What people and clients ask for and no machine has yet: each answers as QEMU does on a machine
/// without.</summary>
static class Absent
{
    public static readonly Command Replay =
        Says("info replay", "", "show record/replay information", "Record/replay is not active");

    public static readonly Command Spice = Says("info spice", "", "show the spice server status", "Server: disabled");
    public static readonly Command Sev = Says("info sev", "", "show SEV information", "SEV is not enabled");
    public static readonly Command Sgx =
        Says("info sgx", "", "show intel SGX information", "No EPC regions defined, SGX not available");

    /// <summary>PCs describe themselves by ACPI.</summary>
    public static readonly Command DeviceTreeBlob = new HumanCommand("dumpdtb", "filename",
        "dump the FDT in dtb format to 'filename'", static (_, words) =>
        {
            words.Word();
            words.End();
            throw new CommandException("This machine doesn't have a FDT");
        });

    static Command Says(string name, string arguments, string help, string line) => new HumanCommand(name, arguments,
        help, (monitor, words) =>
        {
            words.End();
            monitor.Write($"{line}\n");
        });
}
