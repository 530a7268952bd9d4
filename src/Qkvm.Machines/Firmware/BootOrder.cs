using System.Text;

namespace Qkvm.Machines.Firmware;

/// <summary>The "bootorder" file: Open Firmware device paths by priority, one a line, as SeaBIOS and OVMF read
/// it.</summary>
public sealed class BootOrder
{
    readonly List<(ulong Index, string Path)> _entries = [];

    public void Add(ulong bootIndex, string path) => _entries.Add((bootIndex, path));

    public void Remove(string path) => _entries.RemoveAll(entry => entry.Path == path);

    /// <summary>Empty where nothing has a place in the order.</summary>
    /// <param name="strict">-boot strict=on: nothing else is tried.</param>
    public byte[] ToArray(bool strict)
    {
        List<string> lines = [.. _entries.OrderBy(e => e.Index).Select(e => e.Path)];
        if (strict) lines.Add("HALT");
        return lines.Count == 0 ? [] : Encoding.ASCII.GetBytes(string.Join('\n', lines) + "\0");
    }
}
