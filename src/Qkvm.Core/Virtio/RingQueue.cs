using Qkvm.Core.Memory;

namespace Qkvm.Core.Virtio;

/// <summary>What split and packed rings share: the chains of a device, and what becomes of a driver's
/// mistakes.</summary>
public abstract class RingQueue(QueueSetup setup, VirtioControl control) : Virtqueue(setup)
{
    protected const int DescriptorSize = 16;
    protected const ushort NextFlag = 1, WriteFlag = 2, IndirectFlag = 4;  // of descriptors: 2.7.5, 2.8.1

    readonly Stack<DescriptorChain> _free = new();
    readonly List<Memory<byte>> _pieces = [];                      // not migrated: used inside IsRam alone
    QueueInterrupt? _interrupt;
    bool _checked;                                                 // not migrated: ring addresses were seen to be RAM

    protected int Size => Setup.Size;
    protected Dma Dma => control.Transport.Dma;
    protected bool HasEventIndex => (control.Features & VirtioFeatures.EventIndex) != 0;

    public sealed override void Signal()
    {
        Thread.MemoryBarrier();                                    // what was used before the driver's wish is read
        if (control.IsBroken || !WantsInterrupt()) return;
        (_interrupt ??= control.InterruptOf(this)).Signal();
    }

    /// <summary>What the driver has asked for, about what was used since the last call.</summary>
    protected abstract bool WantsInterrupt();

    /// <summary>What is wrong with the rings' size and places, or null.</summary>
    protected abstract string? CheckRings();

    /// <summary>With bus mastering off the rings are out of reach, which is no mistake of the driver.</summary>
    protected bool IsUsable()
    {
        if (!Setup.Enabled || control.IsBroken || !Dma.Enabled) return false;
        return _checked || (_checked = CheckRings() is not { } complaint || Fail(complaint));
    }

    protected void Forget() => _checked = false;

    protected DescriptorChain NewChain() => _free.Count > 0 ? _free.Pop() : new DescriptorChain();
    protected void Release(DescriptorChain chain) => _free.Push(chain);

    protected bool IsRam(ulong address, uint length, bool write)
    {
        _pieces.Clear();
        return Dma.TryMap(address, length, write, _pieces);
    }

    /// <summary>What is wrong with a descriptor that points to an indirect table, or null.</summary>
    protected string? CheckIndirect(uint length, ushort flags)
    {
        if ((control.Features & VirtioFeatures.IndirectDescriptors) == 0)
            return "an indirect descriptor without the feature";
        if ((flags & NextFlag) != 0) return "an indirect descriptor with a successor";
        if (length == 0 || length % DescriptorSize != 0) return "an indirect table of odd length";
        return length / DescriptorSize > Setup.MaxSize ? "an indirect table longer than the queue" : null;
    }

    /// <summary>Always false.</summary>
    protected bool Fail(string what)
    {
        if (control.Device.QueueOf(Index) != null) control.FailOnLoop($"queue {Index}: {what}");
        else control.Fail($"queue {Index}: {what}");
        return false;
    }
}
