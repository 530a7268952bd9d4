using Microsoft.Win32.SafeHandles;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Host;

namespace Qkvm.Backends.Char;

/// <summary>Output into a file, no input.</summary>
public sealed class FileChar : ICharBackend, IDisposable
{
    public static readonly CharModel Model = new("file", [Property.Text("path"), Property.Bool("append", false)],
        static (properties, _) => new FileChar(properties.Required("id"), properties.Required("path"),
            properties.Bool("append"), properties.Owner))
    {
        Description = "output into a file",
    };

    readonly FileStream _file;

    public FileChar(string id, string path, bool append, string owner)
    {
        Id = id;
        try
        {
            // Unbuffered: what a guest printed is in the file when it dies.
            _file = DescriptorSets.TryOpen(path, Libc.OWrOnly, out int fd, out int errno)
                ? fd >= 0 ? new FileStream(new SafeFileHandle(fd, ownsHandle: true), FileAccess.Write, bufferSize: 0)
                    : throw new IOException(Libc.Message(errno))
                : new FileStream(path, append ? FileMode.Append
                    : FileMode.Create, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException($"{owner}: cannot write '{path}': {e.Message}", e);
        }
    }

    public string Id { get; }
    public string Description => Model.Name;
    public bool IsOpen => true;

    public int Write(ReadOnlySpan<byte> data)
    {
        try { _file.Write(data); }
        catch (IOException) { return data.Length; }                // a full disk must not stop the guest
        return data.Length;
    }

    public void Connect(ICharFrontend? frontend) => frontend?.Event(CharEvent.Opened);
    public void AcceptInput() { }
    public void Dispose() => _file.Dispose();
}
