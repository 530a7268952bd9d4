using Qkvm.Core.Memory;
using Qkvm.Core.Virtio;

namespace Qkvm.Core.Tests.Virtio;

/// <summary>Counts interrupts.</summary>
sealed class QueueTransport(Dma dma) : IVirtioTransport
{
    public Dma Dma { get; } = dma;
    public int QueueInterrupts { get; private set; }
    public int ConfigInterrupts { get; private set; }
    public void InterruptQueue(Virtqueue queue) => QueueInterrupts++;
    public void InterruptConfig() => ConfigInterrupts++;
}
