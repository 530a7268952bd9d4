namespace Qkvm.Core.Irq;

/// <summary>A wire: a device drives it, never knowing the number at its other end. Under the machine lock.</summary>
public sealed class IrqLine(string name, Action<bool> sink)
{
    public static IrqLine Unconnected(string name) => new(name, static _ => { });

    public string Name { get; } = name;
    public bool Level { get; private set; }

    public void Set(bool level)
    {
        if (level == Level) return;
        Level = level;
        sink(level);
    }

    /// <summary>A rising and a falling edge.</summary>
    public void Pulse()
    {
        Set(true);
        Set(false);
    }

    /// <summary>After loading state: the level is taken over and no edge is seen downstream.</summary>
    public void Restore(bool level) => Level = level;
}

/// <summary>Where message signalled interrupts go: a write of data to address 0xFEExxxxx.</summary>
public interface IMsiTarget
{
    /// <summary>Under the machine lock.</summary>
    void Send(ulong address, uint data);

    /// <summary>From any thread, without a lock. False for a message that needs <see cref="Send"/>: nothing has
    /// happened then.</summary>
    bool TryPost(ulong address, uint data) => false;
}
