using System.Globalization;
using System.Text;

namespace Qkvm.Storage.Drivers.Vmdk;

/// <summary>A line of the extent description.</summary>
/// <param name="Sectors">Of the disk.</param>
/// <param name="Type">"FLAT", "SPARSE", "ZERO".</param>
/// <param name="File">From the descriptor's directory; null of a ZERO extent.</param>
/// <param name="Offset">Sectors into the file; of FLAT.</param>
readonly record struct VmdkExtentLine(string Access, long Sectors, string Type, string? File, long Offset);

/// <summary>The text that describes a disk, in a file of its own or inside its only extent. Spec: VMware, Virtual Disk
/// Format 1.1, "The Descriptor File".</summary>
sealed class VmdkDescriptor
{
    public const string NoParent = "ffffffff";
    public const int MaxBytes = 1 << 20, MaxExtents = 8192;

    readonly string _text;

    VmdkDescriptor(string text) => _text = text;

    public string Cid { get; private set; } = "";
    public string ParentCid { get; private set; } = NoParent;
    public string CreateType { get; private set; } = "";
    public string? ParentFile { get; private set; }
    public List<VmdkExtentLine> Extents { get; } = [];

    /// <summary>Null and what is wrong, where it is none.</summary>
    public static VmdkDescriptor? Parse(ReadOnlySpan<byte> data, out string wrong)
    {
        int end = data.IndexOf((byte)0);
        var descriptor = new VmdkDescriptor(Encoding.UTF8.GetString(end < 0 ? data : data[..end]));
        wrong = "";
        foreach (string line in descriptor._text.Split('\n'))
        {
            string text = line.Trim();
            if (text.Length == 0 || text[0] == '#') continue;
            if (IsExtent(text))
            {
                if (ParseExtent(text) is not { } extent)
                {
                    wrong = $"Invalid extent line: {text}";
                    return null;
                }
                descriptor.Extents.Add(extent);
                if (descriptor.Extents.Count <= MaxExtents) continue;
                wrong = $"more than {MaxExtents} extents";
                return null;
            }
            if (text.Split('=', 2) is [var key, var value]) descriptor.Take(key.Trim(), value.Trim().Trim('"'));
        }
        if (descriptor.CreateType == "") wrong = "invalid VMDK image descriptor";
        return wrong == "" ? descriptor : null;
    }

    /// <summary>The same with another content id; as long as before.</summary>
    public byte[] WithCid(uint cid)
    {
        int at = _text.StartsWith("CID=", StringComparison.Ordinal) ? 0
            : _text.IndexOf("\nCID=", StringComparison.Ordinal) + 1;
        if (at == 0 && !_text.StartsWith("CID=", StringComparison.Ordinal)) return Encoding.UTF8.GetBytes(_text);
        int end = at + 4;
        while (end < _text.Length && char.IsAsciiHexDigit(_text[end])) end++;
        Cid = cid.ToString("x8", CultureInfo.InvariantCulture);
        return Encoding.UTF8.GetBytes($"{_text.AsSpan(0, at)}CID={Cid}{_text.AsSpan(end)}");
    }

    void Take(string key, string value)
    {
        switch (key)
        {
            case "CID": Cid = value; break;
            case "parentCID": ParentCid = value; break;
            case "createType": CreateType = value; break;
            case "parentFileNameHint": ParentFile = value; break;
        }
    }

    static bool IsExtent(string line) => line.StartsWith("RW ", StringComparison.Ordinal)
        || line.StartsWith("RDONLY ", StringComparison.Ordinal)
        || line.StartsWith("NOACCESS ", StringComparison.Ordinal);

    /// <summary>Access, size, type, "file", offset: the last two as the type has it.</summary>
    static VmdkExtentLine? ParseExtent(string line)
    {
        int quote = line.IndexOf('"'), last = line.LastIndexOf('"');
        string[] words = (quote < 0 ? line : line[..quote]).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        string? file = quote >= 0 && last > quote ? line[(quote + 1)..last] : null;
        if (words.Length != 3 || !long.TryParse(words[1], CultureInfo.InvariantCulture, out long sectors)
            || sectors is <= 0 or > long.MaxValue / 512) return null;
        long offset = 0;
        string rest = last > quote ? line[(last + 1)..].Trim() : "";
        if (words[2] == "FLAT" && !long.TryParse(rest.Split(' ')[0], CultureInfo.InvariantCulture, out offset))
            return null;
        if (offset < 0 || (words[2] != "ZERO" && file == null)) return null;
        return new VmdkExtentLine(words[0], sectors, words[2], file, offset);
    }
}
