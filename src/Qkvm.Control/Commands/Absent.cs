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

    // VNC has no passwords yet

    public static readonly Command SetPassword = new HumanCommand("set_password",
        "protocol password [-d display] [action-if-connected]", "set spice/vnc password", static (_, words) =>
        {
            string protocol = words.Word();
            words.Word();
            if (words.Flag('d')) words.Word();
            string action = words.Optional() ?? "keep";
            words.End();
            if (action is not ("keep" or "fail" or "disconnect")) throw Invalid(action);
            Check(protocol);
            throw new CommandException(action == "keep" ? "Could not set password" : "Invalid parameter 'connected'");
        }) { Completes = [Completions.Words(Vnc)] };

    public static readonly Command ExpirePassword = new HumanCommand("expire_password",
        "protocol time [-d display]", "set spice/vnc password expire-time", static (_, words) =>
        {
            string protocol = words.Word();
            words.Word();
            if (words.Flag('d')) words.Word();
            words.End();
            Check(protocol);
            throw new CommandException("Could not set password expire time");
        }) { Completes = [Completions.Words(Vnc)] };

    const string Vnc = "vnc";

    static void Check(string protocol)
    {
        if (protocol == "spice") throw new CommandException("SPICE is not in use");
        if (protocol != Vnc) throw Invalid(protocol);
    }

    static CommandException Invalid(string word) => new($"invalid parameter value: {word}");

    static Command Says(string name, string arguments, string help, string line) => new HumanCommand(name, arguments,
        help, (monitor, words) =>
        {
            words.End();
            monitor.Write($"{line}\n");
        });
}
