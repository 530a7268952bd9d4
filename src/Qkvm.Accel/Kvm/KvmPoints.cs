using Qkvm.Core.Accel;

namespace Qkvm.Accel.Kvm;

/// <summary>A debugger's points under KVM. Software points put INT3 into the guest's memory while it runs; where there
/// is no memory yet, they take debug registers as the others do. Intel SDM vol. 3, section 18.2.</summary>
sealed class KvmPoints
{
    public static readonly KvmPoints None = new([], static _ => null);

    const byte Int3 = 0xCC;
    const int MostRegisters = 4;

    // DR7: a register holds in all tasks, bits 1, 3, 5, 7; what it stops at, from bit 16; length, from bit 18; and the
    // bit that is always set, with GE.
    const ulong Fixed = 0x600;
    const int TypeShift = 16, LengthShift = 18, BitsPerRegister = 4;
    const ulong Execution = 0, Writes = 1, Accesses = 3;

    readonly record struct Register(DebugPoint Point, ulong Address, ulong Length);

    readonly List<Register> _registers = [];
    readonly Dictionary<ulong, DebugPoint> _code = [];             // those with INT3, by linear address
    readonly Dictionary<CodeByte, byte> _bytes = [];               // what the guest has there

    /// <param name="locate">Where the byte at a linear address lies; null: nowhere that could be changed.</param>
    public KvmPoints(IReadOnlyList<DebugPoint> points, Func<ulong, CodeByte?> locate)
    {
        foreach (DebugPoint point in points)
        {
            if (point.Kind == DebugPointKind.Software && locate(point.Address) is { } place)
            {
                _code[point.Address] = point;
                _bytes[place] = 0;
            }
            else if (point.IsCode) Add(point, point.Address, 1);
            else if (point.Kind == DebugPointKind.Read) IsComplete = false;
            else Watch(point);
        }
    }

    /// <summary>All points have found their place.</summary>
    public bool IsComplete { get; private set; } = true;

    /// <summary>KVM_SET_GUEST_DEBUG's, without steps; 0: no points.</summary>
    public uint Control => (_code.Count > 0 ? KvmGuestDebug.Enable | KvmGuestDebug.SoftwareBreakpoints : 0)
        | (_registers.Count > 0 ? KvmGuestDebug.Enable | KvmGuestDebug.HardwareBreakpoints : 0);

    /// <param name="registers">DR0 to DR7.</param>
    public void Fill(Span<ulong> registers)
    {
        ulong control = Fixed;
        for (int i = 0; i < _registers.Count; i++)
        {
            Register register = _registers[i];
            registers[i] = register.Address;
            ulong type = register.Point.IsCode ? Execution
                : register.Point.Kind == DebugPointKind.Write ? Writes : Accesses;
            ulong length = register.Length switch { 1 => 0, 2 => 1, 4 => 3, _ => 2 };
            control |= 2UL << (2 * i) | type << (TypeShift + BitsPerRegister * i)
                | length << (LengthShift + BitsPerRegister * i);
        }
        registers[7] = control;
    }

    /// <summary>Which point a debug exception was for; DR6 tells the registers in its bits 3 to 0.</summary>
    public DebugStop? Find(ulong dr6)
    {
        for (int i = 0; i < _registers.Count; i++)
            if ((dr6 >> i & 1) != 0) return new DebugStop(_registers[i].Point, _registers[i].Address);
        return null;
    }

    /// <summary>The point whose INT3 is at a linear address.</summary>
    public DebugPoint? At(ulong linear) => _code.TryGetValue(linear, out DebugPoint point) ? point : null;

    /// <summary>The byte is one of these, at whatever address the guest sees it.</summary>
    public bool Has(CodeByte place) => _bytes.ContainsKey(place);

    public void Place()
    {
        foreach (CodeByte place in _bytes.Keys.ToArray())
        {
            _bytes[place] = place.Value;
            Place(place);
        }
    }

    public void Place(CodeByte place) => place.Value = Int3;

    public void Remove()
    {
        foreach (CodeByte place in _bytes.Keys) Remove(place);
    }

    /// <summary>Unless the guest has written something else there.</summary>
    public void Remove(CodeByte place)
    {
        if (place.Value == Int3) place.Value = _bytes[place];
    }

    /// <summary>A register watches 1, 2, 4 or 8 bytes at an address that is a multiple of as many.</summary>
    void Watch(DebugPoint point)
    {
        ulong length = 0;
        for (ulong done = 0; done < point.Length && IsComplete; done += length)
        {
            ulong at = point.Address + done;
            for (length = 8; at % length != 0 || length > point.Length - done;) length /= 2;
            Add(point, at, length);
        }
    }

    void Add(DebugPoint point, ulong address, ulong length)
    {
        if (_registers.Count < MostRegisters) _registers.Add(new Register(point, address, length));
        else IsComplete = false;
    }
}
