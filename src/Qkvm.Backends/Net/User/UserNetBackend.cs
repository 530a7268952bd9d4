using Qkvm.Core.Block;
using Qkvm.Core.Net;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Net.User;

/// <summary>-netdev user: a network that needs no privilege, since the guest's connections are this process'
/// own.</summary>
public sealed class UserNetBackend : NetBackend, IUserNetwork, IDisposable
{
    readonly UserNetOptions _options;
    readonly GuestTargets _targets;
    readonly Action<string> _print;
    readonly TimeProvider _clock;
    readonly List<PortForwarder> _forwards = [];
    IoLoop? _loop;                                                 // of the card, while one is connected
    UserStack? _stack;

    /// <param name="owner">The option, for messages: "-netdev user,id=net0".</param>
    /// <param name="targets">Where guestfwd= leads; this one's from now on.</param>
    /// <param name="print">Takes a line that users need: the port that was chosen for a forward.</param>
    /// <exception cref="ConfigurationException">A port cannot be listened on.</exception>
    public UserNetBackend(string owner, UserNetOptions options, GuestTargets targets, Action<string> print,
        TimeProvider? clock = null) : base(options.Id)
    {
        (_options, _targets, _print) = (options, targets, print);
        _clock = clock ?? TimeProvider.System;
        try
        {
            foreach (HostForward forward in options.HostForwards) Add(owner, forward);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override string Description => $"index=0,type=user,net={_options.Network}," +
        $"restrict={(_options.Restrict ? "on" : "off")}";

    public override NetOffloads Takes => Gives;

    public override NetOffloads Gives => NetOffloads.Checksum | NetOffloads.Tso4 | NetOffloads.Tso6
        | NetOffloads.TsoEcn;

    /// <summary>The forwarded ports, with those that were chosen.</summary>
    public IEnumerable<HostForward> Forwards => _forwards.Select(f => f.Rule);

    public override INetQueue Open(int index, INetPort port, IoLoop loop)
    {
        if (_stack != null) throw new InvalidOperationException($"{Id} is connected already");
        var stack = new UserStack(_options, _targets, port, loop, _clock);
        (_stack, _loop) = (stack, loop);
        PortForwarder[] forwards = [.. _forwards];
        loop.Post(() => { foreach (PortForwarder forward in forwards) forward.Start(stack); });
        return new Queue(this, stack);
    }

    /// <summary>Under the machine lock; what a loop still watches it closes.</summary>
    public void Dispose()
    {
        Disconnect();
        PortForwarder[] forwards = [.. _forwards];
        _forwards.Clear();
        _targets.Dispose();
        foreach (PortForwarder forward in forwards) forward.RemoveFile(); // at the program's end the loop stands still
        if (_loop == null) CloseAll(forwards);
        else _loop.Post(() => CloseAll(forwards));
    }

    static void CloseAll(PortForwarder[] forwards)
    {
        foreach (PortForwarder forward in forwards) forward.Close();
    }

    void Disconnect()
    {
        if (_stack == null) return;
        PortForwarder[] forwards = [.. _forwards];
        _loop!.Post(() => { foreach (PortForwarder forward in forwards) forward.Stop(); });
        _stack.Dispose();
        _stack = null;
    }

    public void AddForward(string rule)
    {
        const string owner = "hostfwd_add";
        PortForwarder forward = Add(owner, UserNetModel.ReadHostForward(owner, rule, _options));
        if (_stack is { } stack) _loop!.Post(() => forward.Start(stack));
    }

    public bool RemoveForward(string hostSide)
    {
        (ForwardKind Kind, IpEndpoint Host, string? Path) side = HostForward.ParseSide(hostSide);
        if (_forwards.Find(f => (f.Rule.Kind, f.Rule.Host, f.Rule.Path) == side) is not { } found) return false;
        _forwards.Remove(found);
        if (_loop == null) found.Close();
        else _loop.Post(found.Close);
        return true;
    }

    public IReadOnlyList<UserConnection> Connections
    {
        get
        {
            List<UserConnection> all = [];
            _stack?.Describe(all);
            all.AddRange(_forwards.Select(f => f.Describe()));
            return [.. all.OrderBy(c => c.Protocol)];
        }
    }

    PortForwarder Add(string owner, HostForward rule)
    {
        PortForwarder forward = PortForwarder.Open(rule, out int errno)
            ?? throw new ConfigurationException($"{owner}: hostfwd={rule}: cannot listen: {Libc.Message(errno)}"
                + PortHolder.Advice(rule, errno));
        _forwards.Add(forward);
        if (rule.Kind != ForwardKind.Unix && rule.Host.Port == 0) _print($"{owner}: hostfwd={forward.Rule}");
        return forward;
    }

    sealed class Queue(UserNetBackend backend, UserStack stack) : INetQueue
    {
        public void Accept(NetOffloads offloads) => stack.Accept(offloads & backend.Gives);

        public void Send(in NetHeader header, in ScatterList frame) => stack.Send(header, frame);

        public void Resume() => stack.PostResume();

        public void Dispose()
        {
            if (backend._stack == stack) backend.Disconnect();
        }
    }
}
