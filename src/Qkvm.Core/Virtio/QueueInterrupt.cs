namespace Qkvm.Core.Virtio;

/// <summary>Tells a driver of used buffers: from any thread for a queue outside the machine lock, under the lock for
/// others.</summary>
/// <remarks>MSI-X goes straight to a local APIC (or the kernel); what needs the lock, INTx above all, follows from the
/// main loop.</remarks>
/// <param name="post">Runs work on the main loop under the machine lock; null for a queue under the lock.</param>
public sealed class QueueInterrupt(IVirtioTransport transport, Virtqueue queue, Action<Action>? post)
{
    readonly Action _raise = () => transport.InterruptQueue(queue);

    public void Signal()
    {
        if (post == null) _raise();
        else if (!transport.TryInterruptQueue(queue)) post(_raise);
    }
}
