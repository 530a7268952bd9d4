using Qkvm.Core.Char;
using Qkvm.Host;

namespace Qkvm.Backends.Char;

/// <summary>parallel: a parallel port of the host, whose registers the guest's port works.</summary>
/// <remarks>Of no use to anything but isa-parallel: bytes that others write go nowhere.</remarks>
public sealed class ParallelChar(string id, HostParallelPort port) : ICharBackend, IParallelLines, IDisposable
{
    public static readonly CharModel Model = new("parallel", [Property.Text("path")], static (properties, _) =>
    {
        try { return new ParallelChar(properties.Required("id"), new HostParallelPort(properties.Required("path"))); }
        catch (HostException e) { throw properties.Error(e.Message, e); }
    })
    {
        Aliases = ["parport"],
        Description = "a parallel port of the host, such as /dev/parport0",
    };

    public string Id { get; } = id;
    public string Description => Model.Name;
    public bool IsOpen => true;

    public byte Status => port.Status;
    public byte Control { get => port.Control; set => port.Control = value; }
    public byte Data { get => port.Data; set => port.Data = value; }
    public void SetInput(bool on) => port.SetInput(on);

    public int Write(ReadOnlySpan<byte> data) => data.Length;
    public void Connect(ICharFrontend? frontend) => frontend?.Event(CharEvent.Opened);
    public void AcceptInput() { }
    public void Dispose() => port.Dispose();
}
