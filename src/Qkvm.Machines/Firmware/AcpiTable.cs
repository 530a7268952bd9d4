using System.Text;
using Qkvm.Core.Acpi;

namespace Qkvm.Machines.Firmware;

/// <summary>Writes the bytes of one system description table: header first, fields in their order. Spec: ACPI 6.3,
/// section
/// 5.2.6 "System Description Table Header". Length is filled in at the end, the checksum by the firmware.</summary>
public sealed class AcpiTable
{
    public const int HeaderSize = 36, LengthOffset = 4, ChecksumOffset = 9;

    readonly List<byte> _bytes = [];
    readonly bool _hasHeader;

    public AcpiTable(string signature, byte revision)
    {
        _hasHeader = true;
        Text(signature, 4).U32(0).U8(revision).U8(0);
        Text("BOCHS ", 6).Text("BXPC    ", 8).U32(1).Text("BXPC", 4).U32(1);
    }

    /// <summary>A structure without header: FACS, RSDP.</summary>
    AcpiTable() { }

    public static AcpiTable Headerless() => new();

    public int Length => _bytes.Count;

    public AcpiTable U8(byte value) => Number(value, 1);
    public AcpiTable U16(ushort value) => Number(value, 2);
    public AcpiTable U32(uint value) => Number(value, 4);
    public AcpiTable U64(ulong value) => Number(value, 8);

    public AcpiTable Text(string value, int size)
    {
        _bytes.AddRange(Encoding.ASCII.GetBytes(value.PadRight(size, '\0')[..size]));
        return this;
    }

    public AcpiTable Zeros(int count) => Bytes(new byte[count]);

    public AcpiTable Bytes(byte[] bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    /// <summary>A generic address structure, section 5.2.3.2: I/O space (1), memory space (0).</summary>
    public AcpiTable Address(byte space, byte bits, ulong address, byte accessSize = 0) =>
        U8(space).U8(bits).U8(0).U8(accessSize).U64(address);

    public byte[] ToArray()
    {
        byte[] bytes = [.. _bytes];
        if (_hasHeader) BitConverter.TryWriteBytes(bytes.AsSpan(LengthOffset), bytes.Length);
        return bytes;
    }

    AcpiTable Number(ulong value, int size) => Bytes(Aml.Number(value, size));
}
