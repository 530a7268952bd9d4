using System.Text;

namespace Qkvm.Backends.Net.User;

/// <summary>Domain names as DHCP and router advertisements carry them: labels with their lengths, an empty one at the
/// end. RFC 1035, section 3.1; RFC 3397.</summary>
static class DomainSearch
{
    const int MaxLabel = 63, MaxName = 255;

    /// <summary>What is wrong with a name, or null.</summary>
    public static string? WhyNot(string name)
    {
        string[] labels = name.TrimEnd('.').Split('.');
        if (name.Length > MaxName - 2) return $"has more than {MaxName - 2} characters";
        return Array.Exists(labels, l => l.Length == 0) ? "has an empty part"
            : Array.Exists(labels, l => l.Length > MaxLabel) ? $"has a part of more than {MaxLabel} characters"
            : Encoding.ASCII.GetByteCount(name) != Encoding.UTF8.GetByteCount(name) ? "is not ASCII" : null;
    }

    public static byte[] Encode(IReadOnlyList<string> names)
    {
        List<byte> bytes = [];
        foreach (string name in names)
        {
            foreach (string label in name.TrimEnd('.').Split('.'))
                bytes.AddRange([(byte)label.Length, .. Encoding.ASCII.GetBytes(label)]);
            bytes.Add(0);
        }
        return [.. bytes];
    }
}
