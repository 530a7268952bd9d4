using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>CMPS and SCAS with and without REPE and REPNE. A fault in mid-string leaves the flags from
/// before.</summary>
static unsafe partial class IntegerOps
{
    static void Cmps<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        CompareOne<T>(cpu, i, out T a, out T b);
        Sub.Apply<T>(cpu.State, Width.Zero(a), Width.Zero(b));
    }

    static void Scas<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        ScanOne<T>(cpu, i, out T b);
        Sub.Apply<T>(cpu.State, Width.Zero(cpu.GetReg<T>(0)), Width.Zero(b));
    }

    /// <summary>[SI] in a, [DI] in b.</summary>
    static void CompareOne<T>(Cpu cpu, Insn* i, out T a, out T b) where T : unmanaged
    {
        int size = i->AddressSize;
        a = cpu.Read<T>(i->Segment, cpu.GetSized(Si, size));
        b = cpu.Read<T>(Seg.Es, cpu.GetSized(Di, size));
        long step = cpu.GoesUp ? sizeof(T) : -sizeof(T);
        cpu.Advance(Si, size, step);
        cpu.Advance(Di, size, step);
    }

    static void ScanOne<T>(Cpu cpu, Insn* i, out T b) where T : unmanaged
    {
        int size = i->AddressSize;
        b = cpu.Read<T>(Seg.Es, cpu.GetSized(Di, size));
        cpu.Advance(Di, size, cpu.GoesUp ? sizeof(T) : -sizeof(T));
    }

    /// <summary>While equal, or while different.</summary>
    static void RepCmps<T>(Cpu cpu, Insn* i) where T : unmanaged, IEquatable<T>
    {
        int size = i->AddressSize;
        bool whileEqual = (i->Flags & InsnFlags.Rep) != 0, up = cpu.GoesUp;
        for (ulong count; (count = cpu.GetSized(Cx, size)) != 0;)
        {
            int done = up && whileEqual ? SkipEqual<T>(cpu, i, count) : 0;
            T a, b;
            if (done == 0)
            {
                CompareOne(cpu, i, out a, out b);
                done = 1;
            }
            else (a, b) = (cpu.Read<T>(i->Segment, Back<T>(cpu, i, Si)), cpu.Read<T>(Seg.Es, Back<T>(cpu, i, Di)));
            cpu.Advance(Cx, size, -done);
            bool ends = (ulong)done == count || a.Equals(b) != whileEqual;
            if (!ends && !cpu.ShouldPause) continue;
            Sub.Apply<T>(cpu.State, Width.Zero(a), Width.Zero(b));
            if (!ends) cpu.RunAgain();
            return;
        }
    }

    static void RepScas<T>(Cpu cpu, Insn* i) where T : unmanaged, IEquatable<T>
    {
        int size = i->AddressSize;
        bool whileEqual = (i->Flags & InsnFlags.Rep) != 0, up = cpu.GoesUp;
        T a = cpu.GetReg<T>(0);
        for (ulong count; (count = cpu.GetSized(Cx, size)) != 0;)
        {
            int done = up ? Scan(cpu, i, a, whileEqual, count) : 0;
            T b;
            if (done == 0)
            {
                ScanOne(cpu, i, out b);
                done = 1;
            }
            else b = cpu.Read<T>(Seg.Es, Back<T>(cpu, i, Di));
            cpu.Advance(Cx, size, -done);
            bool ends = (ulong)done == count || a.Equals(b) != whileEqual;
            if (!ends && !cpu.ShouldPause) continue;
            Sub.Apply<T>(cpu.State, Width.Zero(a), Width.Zero(b));
            if (!ends) cpu.RunAgain();
            return;
        }
    }

    /// <summary>Moves SI and DI beyond the first difference in the pages at hand, or to their end: how many elements, 0
    /// if not in RAM.</summary>
    static int SkipEqual<T>(Cpu cpu, Insn* i, ulong count) where T : unmanaged, IEquatable<T>
    {
        int size = i->AddressSize;
        int fit = cpu.Run<T>(i->Segment, cpu.GetSized(Si, size), count, size, false, out ulong first);
        if (fit == 0) return 0;
        fit = cpu.Run<T>(Seg.Es, cpu.GetSized(Di, size), (ulong)fit, size, false, out ulong second);
        if (fit == 0) return 0;
        byte* a = cpu.TryHost(first, fit * sizeof(T), false), b = a == null ? null
            : cpu.TryHost(second, fit * sizeof(T), false);
        if (b == null) return 0;
        int equal = new Span<T>(a, fit).CommonPrefixLength(new ReadOnlySpan<T>(b, fit));
        int done = Math.Min(equal + 1, fit);
        cpu.Advance(Si, size, done * sizeof(T));
        cpu.Advance(Di, size, done * sizeof(T));
        return done;
    }

    static int Scan<T>(Cpu cpu, Insn* i, T value, bool whileEqual, ulong count) where T : unmanaged, IEquatable<T>
    {
        int size = i->AddressSize;
        int fit = cpu.Run<T>(Seg.Es, cpu.GetSized(Di, size), count, size, false, out ulong linear);
        if (fit == 0) return 0;
        byte* at = cpu.TryHost(linear, fit * sizeof(T), false);
        if (at == null) return 0;
        var span = new ReadOnlySpan<T>(at, fit);
        int found = whileEqual ? span.IndexOfAnyExcept(value) : span.IndexOf(value);
        int done = found < 0 ? fit : found + 1;
        cpu.Advance(Di, size, done * sizeof(T));
        return done;
    }

    /// <summary>The offset of the element that was passed last, going up.</summary>
    static ulong Back<T>(Cpu cpu, Insn* i, byte register) where T : unmanaged
    {
        ulong offset = cpu.State->Gpr[register] - (ulong)sizeof(T);
        return i->AddressSize == 8 ? offset : i->AddressSize == 4 ? (uint)offset : (ushort)offset;
    }

    static Handler SelectCmps<T>(in Instruction x) where T : unmanaged, IEquatable<T> => IsRepeated(in x) ? &RepCmps<T>
        : &Cmps<T>;
    static Handler SelectScas<T>(in Instruction x) where T : unmanaged, IEquatable<T> => IsRepeated(in x) ? &RepScas<T>
        : &Scas<T>;
}
