using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sandboxing;

namespace Qkvm;

/// <summary>What the program gives up when all is open and before guests run: -chroot, -runas, -sandbox, in this
/// order.</summary>
static class Confinement
{
    /// <summary>Whom -runas names, while the list of users can be read.</summary>
    /// <exception cref="ConfigurationException">There is no such user.</exception>
    public static Account? Find(NamedOption? runAs) => runAs is not { } given ? null
        : Account.Find(given.Value) ?? throw new ConfigurationException($"{given.Owner}: User \"{given.Value}\" "
            + "doesn't exist (and is not <uid>:<gid>)");

    /// <exception cref="ConfigurationException">The host does not let it: nothing may run then.</exception>
    public static void Enter(MachineConfig config, Account? account)
    {
        Try(config.Root, Root.Change);
        Try(config.RunAs, _ => account!.Become());
        if (config.Sandbox is { } rules) Sandbox.Install(rules);
    }

    static void Try(NamedOption? given, Action<string> change)
    {
        if (given == null) return;
        try { change(given.Value); }
        catch (HostException e) { throw new ConfigurationException($"{given.Owner}: {e.Message}", e); }
    }
}
