using Qkvm.Core.Char;
using Qkvm.Core.Irq;
using Qkvm.Hw.Char;

namespace Qkvm.Hw.Tests.Char;

/// <summary>The guest's port over one of the host: registers pass through.</summary>
public class ParallelLinesTests
{
    const int Data = 0, Status = 1, Control = 2;

    readonly HostPort _host = new();
    readonly ParallelPort _port;

    public ParallelLinesTests() => _port = new ParallelPort("p", new IrqLine("irq", static _ => { }), _host);

    [Fact]
    public void Data_status_and_control_are_the_hosts()
    {
        _host.Status = 0x5A;
        _port.Write(Data, 1, 0xC3);
        _port.Write(Control, 1, 0x0D);
        Assert.Equal((0xC3, 0x0D), (_host.Data, _host.Control));
        _host.Data = 0x77;
        Assert.Equal((0x77UL, 0x5AUL, 0xCDUL), (_port.Read(Data, 1), _port.Read(Status, 1), _port.Read(Control, 1)));
    }

    [Fact]
    public void The_direction_is_set_apart_from_the_control_lines()
    {
        _port.Write(Control, 1, 0x3C);
        Assert.Equal((true, 0x0C), (_host.IsInput, _host.Control));
        Assert.Equal(0xFCUL, _port.Read(Control, 1));
        _port.Reset();
        Assert.False(_host.IsInput);
    }

    sealed class HostPort : ICharBackend, IParallelLines
    {
        public bool IsInput { get; private set; }
        public byte Status { get; set; }
        public byte Control { get; set; }
        public byte Data { get; set; }
        public void SetInput(bool on) => IsInput = on;
        public string Id => "h";
        public string Description => "h";
        public bool IsOpen => true;
        public int Write(ReadOnlySpan<byte> data) => data.Length;
        public void Connect(ICharFrontend? frontend) { }
        public void AcceptInput() { }
    }
}
