namespace Qkvm.Core.Acpi;

public readonly partial struct Aml
{
    // Statements and operators, section 20.2.5.3 and 20.2.5.4

    /// <summary>Calls a method with its arguments.</summary>
    public static Aml Call(string method, params ReadOnlySpan<Aml> arguments) =>
        new([.. Path(method), .. Join(arguments)]);

    public static Aml Return(Aml value) => new([0xA4, .. value.Code]);
    public static Aml Store(Aml value, Aml target) => new([0x70, .. value.Code, .. target.Code]);
    public static Aml If(Aml condition, params ReadOnlySpan<Aml> terms) =>
        new([0xA0, .. Sized([.. condition.Code, .. Join(terms)])]);
    public static Aml Else(params ReadOnlySpan<Aml> terms) => new([0xA1, .. Sized(Join(terms))]);
    public static Aml Equal(Aml a, Aml b) => new([0x93, .. a.Code, .. b.Code]);
    public static Aml Not(Aml condition) => new([0x92, .. condition.Code]);
    public static Aml And(Aml a, Aml b) => Binary(0x7B, a, b, NoTarget);
    public static Aml And(Aml a, Aml b, Aml target) => Binary(0x7B, a, b, target);
    public static Aml Or(Aml a, Aml b, Aml target) => Binary(0x7D, a, b, target);
    public static Aml Or(Aml a, Aml b) => Binary(0x7D, a, b, NoTarget);
    public static Aml Add(Aml a, Aml b, Aml target) => Binary(0x72, a, b, target);
    public static Aml Subtract(Aml a, Aml b, Aml target) => Binary(0x74, a, b, target);
    public static Aml ShiftLeft(Aml value, Aml bits) => Binary(0x79, value, bits, NoTarget);
    public static Aml Increment(Aml target) => new([0x75, .. target.Code]);
    public static Aml Less(Aml a, Aml b) => new([0x95, .. a.Code, .. b.Code]);
    public static Aml BothOf(Aml a, Aml b) => new([0x90, .. a.Code, .. b.Code]);
    public static Aml EitherOf(Aml a, Aml b) => new([0x91, .. a.Code, .. b.Code]);
    public static Aml Index(Aml list, Aml at) => new([0x88, .. list.Code, .. at.Code, .. NoTarget.Code]);
    public static Aml DerefOf(Aml reference) => new([0x83, .. reference.Code]);
    public static Aml ObjectType(Aml value) => new([0x8E, .. value.Code]);
    public static Aml SizeOf(Aml value) => new([0x87, .. value.Code]);

    /// <summary>Part of a buffer.</summary>
    public static Aml Mid(Aml source, Aml from, Aml length) =>
        new([0x9E, .. source.Code, .. from.Code, .. length.Code, .. NoTarget.Code]);

    public static Aml ToInteger(Aml value) => new([0x99, .. value.Code, .. NoTarget.Code]);
    public static Aml While(Aml condition, params ReadOnlySpan<Aml> terms) =>
        new([0xA2, .. Sized([.. condition.Code, .. Join(terms)])]);
    public static readonly Aml Break = new([0xA5]);

    /// <summary>Tells the operating system of a device: 1 that it is to be looked at, 3 that it is asked for.</summary>
    public static Aml Notify(Aml device, Aml what) => new([0x86, .. device.Code, .. what.Code]);

    /// <summary>Waits for it as long as it takes.</summary>
    public static Aml Acquire(string mutex) => new([Extended, 0x23, .. Path(mutex), 0xFF, 0xFF]);
    public static Aml Release(string mutex) => new([Extended, 0x27, .. Path(mutex)]);

    static Aml Binary(byte opcode, Aml a, Aml b, Aml target) => new([opcode, .. a.Code, .. b.Code, .. target.Code]);
}
