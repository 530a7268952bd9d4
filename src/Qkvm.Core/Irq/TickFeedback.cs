namespace Qkvm.Core.Irq;

/// <summary>Tells a periodic timer of its interrupt's fate, so that ticks the guest had no time for come later and are
/// not lost.
/// Under the machine lock.</summary>
/// <param name="isWaiting">An edge has been accepted and no processor has taken it yet: another would be lost in
/// it.</param>
public sealed class TickFeedback(Func<bool> isWaiting)
{
    /// <summary>Where nobody can tell: each edge passes for taken.</summary>
    public static TickFeedback None() => new(static () => false);

    public bool IsWaiting => isWaiting();

    /// <summary>A processor has taken an interrupt, perhaps this one.</summary>
    public event Action? Taken;

    public void Take() => Taken?.Invoke();
}
