using Qkvm.Core.Block;
using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Backends.Tests;

/// <summary>Knows backends by id, and makes none.</summary>
sealed class FakeHost(EventLoop loop) : IBackendHost
{
    public EventLoop Loop => loop;
    public MachineBackends Backends { get; } = new();
    public Descriptors Descriptors { get; } = new();
    public IReadOnlyList<BlockDriver> Nodes => [];
    public List<string> Printed { get; } = [];
    public List<string> Warnings { get; } = [];

    public void Print(string line) => Printed.Add(line);
    public void Warn(string line) => Warnings.Add(line);
    public IEnumerable<string> ChipGlobals => [];
    public IReadOnlyList<Model> ModelsOf(ModelKind kind) => [];

    public void Add(ChardevConfig chardev) => throw new NotSupportedException();
    public string AddCharacter(string device, string id, string owner) => throw new NotSupportedException();
    public void Add(NetdevConfig netdev) => throw new NotSupportedException();
    public void Add(BlockdevConfig node) => throw new NotSupportedException();
    public void Add(DriveConfig drive) => throw new NotSupportedException();
    public void Add(ObjectConfig made) => throw new NotSupportedException();
    public ValueTask AddNodeAsync(BlockdevConfig node) => throw new NotSupportedException();
    public ValueTask ResizeAsync(BlockDriver node, long length) => throw new NotSupportedException();
    public ValueTask AddDriveAsync(string words) => throw new NotSupportedException();
    public ValueTask<BlockDriver> OpenMediumAsync(string file, string? format, bool isReadOnly, string owner) =>
        throw new NotSupportedException();
    public void ChangeChardev(ChardevConfig chardev) => throw new NotSupportedException();
    public ValueTask RemoveNodeAsync(string nodeName) => throw new NotSupportedException();
    public void RemoveChardev(string id) => throw new NotSupportedException();
    public void RemoveNetdev(string id) => throw new NotSupportedException();
    public void RemoveObject(string id) => throw new NotSupportedException();
}
