using System.Runtime.InteropServices;
using Qkvm.Core.Char;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>The terminal (or pipe) that the program was started on. A terminal is made raw while it is in use and put
/// back by <see cref="Dispose"/>, which the program calls on every way out, or by the keeper if it cannot.</summary>
public sealed class StdioChar : StreamChar, IDisposable
{
    public static readonly CharModel Model = new("stdio", [Property.Bool("signal", false, "ctrl-c ends the program")],
        static (properties, host) =>
    {
        if (In(host.Backends) is { } other)
            throw properties.Error($"stdio is in use by chardev '{other.Id}' already; share it with -chardev "
                + "stdio,id=X,mux=on or -serial mon:stdio");
        if (host.Backends.TerminalUser is { } user) throw properties.Error($"stdio is in use by {user}");
        return new StdioChar(properties.Required("id"), host.Loop, properties.Bool("signal"));
    }) { Description = "the terminal that the program was started on" };

    /// <summary>The one that uses the terminal, or null.</summary>
    public static StdioChar? In(MachineBackends backends) => backends.Chardevs.Values.Select(c => c.Stream)
        .OfType<StdioChar>().FirstOrDefault();

    const int WindowChanged = 28;                                  // SIGWINCH

    readonly TerminalKeeper? _keeper;
    readonly TerminalMode? _terminal;
    readonly PosixSignalRegistration? _resized;

    /// <param name="signals">signal=on: ctrl-c ends the program instead of going to the guest.</param>
    public StdioChar(string id, EventLoop loop, bool signals) : base(id, loop)
    {
        int input = FdStream.Reopen(0, Libc.ORdOnly), output = FdStream.Reopen(1, Libc.OWrOnly);
        if (!Console.IsInputRedirected) _keeper = TerminalKeeper.Start();
        _terminal = TerminalMode.MakeRaw(0, signals);
        if (_terminal != null)
            _resized = PosixSignalRegistration.Create((PosixSignal)WindowChanged,
                _ => loop.Post(() => Frontend?.Event(CharEvent.Resized)));
        Open(new DescriptorTransport(input, output, endsOnlyInput: true));
    }

    public override string Description => "stdio";

    /// <summary>Somebody types here.</summary>
    public bool IsTerminal => _terminal != null;

    public override (ushort Columns, ushort Rows)? WindowSize => _terminal?.WindowSize;

    protected override void OnHangUp() { }

    public void Dispose()
    {
        _resized?.Dispose();
        _terminal?.Restore();
        _keeper?.Dispose();
    }
}
