using System.Buffers.Binary;
using System.Text;

namespace Qkvm.Core.Acpi;

public enum AmlRegionSpace : byte { SystemMemory = 0, SystemIo = 1, PciConfig = 2 }

/// <summary>How wide a field is accessed, and what the bits around it are written as: as they are, unless
/// <see cref="ZeroRest"/>.</summary>
[Flags]
public enum AmlAccess : byte { Any = 0, Byte = 1, Word = 2, Dword = 3, ZeroRest = 0x40 }

/// <summary>A piece of ACPI machine language: terms are made from terms, so a table reads like its source. Spec: ACPI
/// 6.3, chapter 20 "ACPI Machine Language Specification".</summary>
public readonly partial struct Aml(byte[] code)
{
    const byte Extended = 0x5B;                                    // ExtOpPrefix

    public byte[] Code { get; } = code;

    public static readonly Aml Local0 = new([0x60]), Local1 = new([0x61]), Local2 = new([0x62]), Local3 = new([0x63]),
        Arg0 = new([0x68]), Arg1 = new([0x69]), Arg2 = new([0x6A]), Arg3 = new([0x6B]), Arg4 = new([0x6C]),
        Arg5 = new([0x6D]);

    /// <summary>The result of an operator is not stored.</summary>
    static readonly Aml NoTarget = new([0x00]);

    // Data, section 20.2.3

    public static implicit operator Aml(int value) => Integer((ulong)value);

    public static Aml Integer(ulong value) => value switch
    {
        0 => new([0x00]),
        1 => new([0x01]),
        <= byte.MaxValue => new([0x0A, (byte)value]),
        <= ushort.MaxValue => new([0x0B, .. Number(value, 2)]),
        <= uint.MaxValue => new([0x0C, .. Number(value, 4)]),
        _ => new([0x0E, .. Number(value, 8)]),
    };

    public static Aml Text(string value) => new([0x0D, .. Encoding.ASCII.GetBytes(value), 0]);

    public static Aml Buffer(ReadOnlySpan<byte> data) =>
        new([0x11, .. Sized([.. Integer((ulong)data.Length).Code, .. data])]);

    public static Aml Package(params ReadOnlySpan<Aml> elements) =>
        new([0x12, .. Sized([(byte)elements.Length, .. Join(elements)])]);

    /// <summary>A universal identifier, section 19.6.142: its first three fields are little endian.</summary>
    public static Aml Uuid(string id) => Buffer(Guid.Parse(id).ToByteArray());

    /// <summary>A compressed identifier such as PNP0A03; section 19.3.4.</summary>
    public static Aml EisaId(string id)
    {
        int vendor = (id[0] - '@') << 10 | (id[1] - '@') << 5 | (id[2] - '@');
        uint number = (uint)vendor << 16 | Convert.ToUInt16(id[3..], 16);
        return new([0x0C, .. Number(BinaryPrimitives.ReverseEndianness(number), 4)]);
    }

    // Names, section 20.2.2

    /// <summary>Refers to a name: PRQ0, \_SB.PCI0.</summary>
    public static Aml Ref(string path) => new(Path(path));

    public static Aml Name(string path, Aml value) => new([0x08, .. Path(path), .. value.Code]);

    // Containers, section 20.2.5

    public static Aml Scope(string path, params ReadOnlySpan<Aml> terms) =>
        new([0x10, .. Sized([.. Path(path), .. Join(terms)])]);

    public static Aml Device(string name, params ReadOnlySpan<Aml> terms) =>
        new([Extended, 0x82, .. Sized([.. Path(name), .. Join(terms)])]);

    /// <summary>What a Plug and Play device says of itself, for <see cref="Device"/>: its identifier, its number among
    /// several, that it is there, and its resources.</summary>
    public static Aml[] PlugAndPlay(string id, int? number, params ReadOnlySpan<AmlResource> resources)
    {
        const int Present = 0x0F;                                  // _STA
        var terms = new List<Aml> { Name("_HID", EisaId(id)) };
        if (number is { } unique) terms.Add(Name("_UID", unique));
        return [.. terms, Name("_STA", Present), Name("_CRS", AmlResource.Template(resources))];
    }

    public static Aml Processor(string name, byte id) =>
        new([Extended, 0x83, .. Sized([.. Path(name), id, .. Number(0, 4), 0])]);

    public static Aml Method(string name, int arguments, params ReadOnlySpan<Aml> terms) =>
        new([0x14, .. Sized([.. Path(name), (byte)arguments, .. Join(terms)])]);

    /// <summary>One that runs once at a time, as one must that makes names.</summary>
    public static Aml SerializedMethod(string name, int arguments, params ReadOnlySpan<Aml> terms)
    {
        const int Serialized = 0x08;
        return Method(name, arguments | Serialized, terms);
    }

    public static Aml Mutex(string name) => new([Extended, 0x01, .. Path(name), 0]);

    public static Aml OperationRegion(string name, AmlRegionSpace space, Aml offset, Aml length) =>
        new([Extended, 0x80, .. Path(name), (byte)space, .. offset.Code, .. length.Code]);

    /// <summary>Fields in their order; a null name is a gap.</summary>
    public static Aml Field(string region, AmlAccess access, params ReadOnlySpan<(string? Name, int Bits)> fields)
    {
        var list = new List<byte>();
        foreach (var (name, bits) in fields)
        {
            list.AddRange(name is null ? [0x00] : Path(name));
            list.AddRange(PackageLength(bits));
        }
        return new([Extended, 0x81, .. Sized([.. Path(region), (byte)access, .. list])]);
    }

    /// <summary>Names 4 bytes of a buffer.</summary>
    public static Aml CreateDwordField(Aml buffer, int offset, string name) =>
        new([0x8A, .. buffer.Code, .. Integer((ulong)offset).Code, .. Path(name)]);

    public static byte[] Join(params ReadOnlySpan<Aml> terms)
    {
        int length = 0;
        foreach (Aml term in terms) length += term.Code.Length;
        var code = new byte[length];
        Span<byte> rest = code;
        foreach (Aml term in terms)
        {
            term.Code.CopyTo(rest);
            rest = rest[term.Code.Length..];
        }
        return code;
    }

    static byte[] Path(string path)
    {
        const int SegmentLength = 4;
        ReadOnlySpan<char> names = path.AsSpan().TrimStart("\\^");
        int root = path.Length - names.Length, segments = names.IsEmpty ? 0 : names.Count('.') + 1;
        ReadOnlySpan<byte> prefix = segments switch { 0 => [0x00], 1 => [], 2 => [0x2E], _ => [0x2F, (byte)segments] };
        var code = new byte[root + prefix.Length + segments * SegmentLength];
        Encoding.ASCII.GetBytes(path.AsSpan(0, root), code);
        prefix.CopyTo(code.AsSpan(root));
        Span<byte> rest = code.AsSpan(root + prefix.Length);
        rest.Fill((byte)'_');
        if (segments == 0) return code;
        foreach (Range segment in names.Split('.'))
        {
            Encoding.ASCII.GetBytes(names[segment], rest);
            rest = rest[SegmentLength..];
        }
        return code;
    }

    /// <summary>Prepends the length, which counts its own bytes.</summary>
    static byte[] Sized(byte[] body)
    {
        int total = body.Length + 1;
        if (total > 0x3F) total = body.Length + (body.Length + 2 <= 0xFFF ? 2 : body.Length + 3 <= 0xF_FFFF ? 3 : 4);
        return [.. PackageLength(total), .. body];
    }

    /// <summary>PkgLength, section 20.2.4: 6 bits in one byte, or 4 bits and up to three bytes.</summary>
    static byte[] PackageLength(int length) => length switch
    {
        <= 0x3F => [(byte)length],
        <= 0xFFF => [(byte)(0x40 | length & 15), (byte)(length >> 4)],
        <= 0xF_FFFF => [(byte)(0x80 | length & 15), (byte)(length >> 4), (byte)(length >> 12)],
        _ => [(byte)(0xC0 | length & 15), (byte)(length >> 4), (byte)(length >> 12), (byte)(length >> 20)],
    };

    /// <summary>Little endian.</summary>
    public static byte[] Number(ulong value, int bytes)
    {
        Span<byte> data = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, value);
        return data[..bytes].ToArray();
    }
}
