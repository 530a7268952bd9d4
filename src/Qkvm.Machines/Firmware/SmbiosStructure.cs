using System.Text;
using Qkvm.Core.Acpi;

namespace Qkvm.Machines.Firmware;

/// <summary>One SMBIOS structure: header, formatted area, strings. Spec: DMTF DSP0134 (SMBIOS 2.8), section
/// 6.1.</summary>
public sealed class SmbiosStructure
{
    readonly List<byte> _formatted = [];
    readonly List<string> _strings = [];

    public SmbiosStructure(byte type, ushort handle)
    {
        Type = type;
        U8(type).U8(0).U16(handle);
    }

    public byte Type { get; }

    public SmbiosStructure U8(byte value) => Number(value, 1);
    public SmbiosStructure U16(ushort value) => Number(value, 2);
    public SmbiosStructure U32(uint value) => Number(value, 4);
    public SmbiosStructure U64(ulong value) => Number(value, 8);

    public SmbiosStructure Bytes(ReadOnlySpan<byte> bytes)
    {
        _formatted.AddRange(bytes);
        return this;
    }

    /// <summary>A reference to a string; 0 for none.</summary>
    public SmbiosStructure Text(string? value)
    {
        if (string.IsNullOrEmpty(value)) return U8(0);
        _strings.Add(value);
        return U8((byte)_strings.Count);
    }

    /// <summary>A count, and the strings.</summary>
    public SmbiosStructure Strings(string[] values)
    {
        _strings.AddRange(values.Where(v => v.Length > 0));
        return U8((byte)_strings.Count);
    }

    public byte[] ToArray()
    {
        var bytes = new List<byte>(_formatted) { [1] = (byte)_formatted.Count };
        foreach (string text in _strings)
        {
            bytes.AddRange(Encoding.UTF8.GetBytes(text));
            bytes.Add(0);
        }
        if (_strings.Count == 0) bytes.Add(0);
        bytes.Add(0);
        return [.. bytes];
    }

    SmbiosStructure Number(ulong value, int size) => Bytes(Aml.Number(value, size));
}
