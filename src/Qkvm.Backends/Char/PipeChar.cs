using Qkvm.Core.Char;
using Qkvm.Host;
using Qkvm.Host.Sockets;

namespace Qkvm.Backends.Char;

/// <summary>pipe: FIFOs of the host. The guest reads from PATH.in and writes to PATH.out; where these are not, PATH
/// serves both.</summary>
/// <remarks>Opened both ways, so that whoever is at the other end may come and go.</remarks>
public sealed class PipeChar : StreamChar, IDisposable
{
    public static readonly CharModel Model = new("pipe", [Property.Text("path")],
        static (properties, host) => new PipeChar(properties.Required("id"), properties.Required("path"), host.Loop,
            properties.Owner)) { Description = "FIFOs of the host: PATH.in and PATH.out, or PATH" };

    readonly int _input, _output;

    public PipeChar(string id, string path, EventLoop loop, string owner) : base(id, loop)
    {
        (_input, _output) = (OpenFifo($"{path}.in"), OpenFifo($"{path}.out"));
        if (_input < 0 || _output < 0)
        {
            CloseBoth();
            _input = _output = OpenFifo(path);
            if (_input < 0)
                throw new ConfigurationException($"{owner}: cannot open '{path}.in' and '{path}.out', nor '{path}': " +
                    $"{Libc.Message(Libc.Errno)}; make them: mkfifo {path}.in {path}.out");
        }
        Open(new DescriptorTransport(_input, _output, endsOnlyInput: false));
    }

    public override string Description => Model.Name;

    protected override void OnHangUp() { }

    public void Dispose()
    {
        Detach();
        CloseBoth();
    }

    static int OpenFifo(string path) => Libc.open(path, Libc.ORdWr | Libc.ONonBlock | Libc.ONoCtty | Libc.OCloexec, 0);

    void CloseBoth()
    {
        if (_input >= 0) Libc.close(_input);
        if (_output >= 0 && _output != _input) Libc.close(_output);
    }
}
