using Qkvm.Core.Char;

namespace Qkvm;

/// <summary>A monitor on its chardev, until it is closed; then another may take that.</summary>
sealed class OpenedMonitor(ICharBackend backend, ICharFrontend monitor, Action release) : IDisposable
{
    public void Dispose()
    {
        (monitor as IDisposable)?.Dispose();
        backend.Connect(null);
        release();
    }
}
