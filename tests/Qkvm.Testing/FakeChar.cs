using Qkvm.Core.Char;
using Qkvm.Core.Virtio;

namespace Qkvm.Testing;

/// <summary>A character backend that keeps what it gets and takes at most <see cref="Space"/> bytes.</summary>
public sealed class FakeChar : ICharBackend, IVhostUserSocket
{
    public List<byte> Output { get; } = [];
    public int Space { get; set; } = int.MaxValue;
    public int AcceptCalls { get; private set; }
    public ICharFrontend? Frontend { get; private set; }
    public string Id => "fake";
    public string Description => "fake";
    public bool IsOpen { get; set; } = true;
    public (ushort Columns, ushort Rows)? WindowSize { get; set; }

    /// <summary>Who is at the other end for devices of other processes.</summary>
    public FakeVhost? Vhost { get; set; }

    public IVhostUser Serve(VhostUserNeeds needs)
    {
        FakeVhost peer = Vhost ?? throw new ConfigurationException("no peer");
        peer.Needs = needs;
        return peer;
    }

    public string Text => string.Concat(Output.Select(b => (char)b));

    public int Write(ReadOnlySpan<byte> data)
    {
        int count = Math.Min(Space, data.Length);
        Space -= count;
        Output.AddRange(data[..count]);
        return count;
    }

    public void Connect(ICharFrontend? frontend) => Frontend = frontend;
    public void AcceptInput() => AcceptCalls++;
}
