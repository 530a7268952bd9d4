using Qkvm.Core.Machine;
using Qkvm.Host;

namespace Qkvm.Control.Commands;

/// <summary>A file that a command writes.</summary>
static class OutputFile
{
    /// <param name="complaint">What stands before the path where it cannot be made.</param>
    /// <param name="mode">Rights of a new file; null: what the umask leaves.</param>
    /// <exception cref="CommandException">With the host's reason.</exception>
    public static FileStream Create(string path, string complaint = "Could not open", UnixFileMode? mode = null)
    {
        try
        {
            bool isNew = !File.Exists(path);
            FileStream file = File.Create(path);
            if (isNew && mode is { } rights) HostFile.SetMode(path, rights);
            return file;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            string reason = e switch
            {
                FileNotFoundException or DirectoryNotFoundException => "No such file or directory",
                UnauthorizedAccessException when Directory.Exists(path) => "Is a directory",
                UnauthorizedAccessException => "Permission denied",
                _ => e.Message,
            };
            throw new CommandException($"{complaint} '{path}': {reason}", inner: e);
        }
    }
}
