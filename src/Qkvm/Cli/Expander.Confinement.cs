using Qkvm.Core.Machine;
using Qkvm.Host.Sandboxing;

namespace Qkvm.Cli;

/// <summary>What the program gives up once all is open.</summary>
public sealed partial class Expander
{
    void TakeRunWith(string text, string owner)
    {
        Options options = Options.Parse(text, owner);
        if (options.Bool("async-teardown") == true)
            throw options.Error("async-teardown=on is not built yet; leave it out");
        if (options.Text("chroot") is { } root) _config = _config with { Root = new NamedOption(root, owner) };
        if (options.Text("user") is { } user) _config = _config with { RunAs = new NamedOption(user, owner) };
        options.Close();
    }

    void TakeSandbox(string text, string owner)
    {
        Options options = Options.Parse(text, owner, "enable");
        bool isOn = options.Text("enable") switch
        {
            "on" => true,
            "off" => false,
            _ => throw options.Error("Parameter 'enable' expects 'on' or 'off'"),
        };
        var rules = new SandboxRules(Denies("obsolete") ?? true, Denies("elevateprivileges", "children") ?? false,
            Denies("spawn") ?? false, Denies("resourcecontrol") ?? false);
        options.Close();
        _config = _config with { Sandbox = isOn ? rules : null };

        // programs that are started get no more rights in any case: as "children" wants it
        bool? Denies(string name, string? also = null) => options.Text(name) switch
        {
            null => null,
            "allow" => false,
            "deny" => true,
            { } other when other == also => true,
            _ => throw options.Error($"invalid argument for {name}"),
        };
    }
}
