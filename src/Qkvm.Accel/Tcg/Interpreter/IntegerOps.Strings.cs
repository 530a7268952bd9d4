using Iced.Intel;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
/// <summary>MOVS STOS LODS with and without REP. Intel SDM vol. 1, section 7.3.9. Repeated ones go page by page through
/// host memory; the registers say after each chunk what is left, so that a fault or an interrupt finds them
/// right.</summary>
static unsafe partial class IntegerOps
{
    const byte Cx = 1, Si = 6, Di = 7;

    static void Movs<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        int size = i->AddressSize;
        cpu.Write(Seg.Es, cpu.GetSized(Di, size), cpu.Read<T>(i->Segment, cpu.GetSized(Si, size)));
        long step = cpu.GoesUp ? sizeof(T) : -sizeof(T);
        cpu.Advance(Si, size, step);
        cpu.Advance(Di, size, step);
    }

    static void Stos<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        int size = i->AddressSize;
        cpu.Write(Seg.Es, cpu.GetSized(Di, size), cpu.GetReg<T>(0));
        cpu.Advance(Di, size, cpu.GoesUp ? sizeof(T) : -sizeof(T));
    }

    static void Lods<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        int size = i->AddressSize;
        cpu.SetReg(0, cpu.Read<T>(i->Segment, cpu.GetSized(Si, size)));
        cpu.Advance(Si, size, cpu.GoesUp ? sizeof(T) : -sizeof(T));
    }

    static void RepMovs<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        int size = i->AddressSize;
        bool up = cpu.GoesUp;
        for (ulong count; (count = cpu.GetSized(Cx, size)) != 0;)
        {
            int done = up ? MoveChunk<T>(cpu, i, count) : MoveChunkDown<T>(cpu, i, count);
            if (done == 0)
            {
                Movs<T>(cpu, i);
                done = 1;
            }
            cpu.Advance(Cx, size, -done);
            if ((ulong)done != count && cpu.ShouldPause)
            {
                cpu.RunAgain();
                return;
            }
        }
    }

    /// <summary>As many elements as lie in RAM and in one page on both sides, moved; 0: go by elements.</summary>
    static int MoveChunk<T>(Cpu cpu, Insn* i, ulong count) where T : unmanaged
    {
        int size = i->AddressSize;
        int fit = cpu.Run<T>(i->Segment, cpu.GetSized(Si, size), count, size, false, out ulong from);
        if (fit == 0) return 0;
        fit = cpu.Run<T>(Seg.Es, cpu.GetSized(Di, size), (ulong)fit, size, true, out ulong to);
        if (fit == 0) return 0;
        int bytes = fit * sizeof(T);
        byte* source = cpu.TryHost(from, bytes, false);
        if (source == null) return 0;
        byte* destination = cpu.TryHost(to, bytes, true);
        if (destination == null) return 0;
        // Ahead of its source within reach the move repeats a pattern, which only goes element by element.
        if (destination > source && destination < source + bytes)
            for (int n = 0; n < fit; n++) ((T*)destination)[n] = ((T*)source)[n];
        else Buffer.MemoryCopy(source, destination, bytes, bytes);
        cpu.Advance(Si, size, bytes);
        cpu.Advance(Di, size, bytes);
        return fit;
    }

    /// <summary>As <see cref="MoveChunk"/>, from the elements at SI and DI downwards.</summary>
    static int MoveChunkDown<T>(Cpu cpu, Insn* i, ulong count) where T : unmanaged
    {
        int size = i->AddressSize;
        int fit = cpu.RunDown<T>(i->Segment, cpu.GetSized(Si, size), count, size, false, out ulong from);
        if (fit == 0) return 0;
        fit = cpu.RunDown<T>(Seg.Es, cpu.GetSized(Di, size), (ulong)fit, size, true, out ulong to);
        if (fit == 0) return 0;
        int bytes = fit * sizeof(T), below = bytes - sizeof(T);
        // The first element, which lies highest, is the one that faults.
        if (cpu.TryHost(from, sizeof(T), false) == null || cpu.TryHost(to, sizeof(T), true) == null) return 0;
        byte* source = cpu.TryHost(from - (ulong)below, bytes, false);
        byte* destination = cpu.TryHost(to - (ulong)below, bytes, true);
        if (source == null || destination == null) return 0;
        if (destination < source && destination + bytes > source)
            for (int n = fit - 1; n >= 0; n--) ((T*)destination)[n] = ((T*)source)[n];
        else Buffer.MemoryCopy(source, destination, bytes, bytes);
        cpu.Advance(Si, size, -bytes);
        cpu.Advance(Di, size, -bytes);
        return fit;
    }

    static void RepStos<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        int size = i->AddressSize;
        bool up = cpu.GoesUp;
        for (ulong count; (count = cpu.GetSized(Cx, size)) != 0;)
        {
            ulong to = 0;
            int done = up ? cpu.Run<T>(Seg.Es, cpu.GetSized(Di, size), count, size, true, out to) : 0;
            byte* destination = done == 0 ? null : cpu.TryHost(to, done * sizeof(T), true);
            if (destination != null)
            {
                new Span<T>(destination, done).Fill(cpu.GetReg<T>(0));
                cpu.Advance(Di, size, done * sizeof(T));
            }
            else
            {
                Stos<T>(cpu, i);
                done = 1;
            }
            cpu.Advance(Cx, size, -done);
            if ((ulong)done != count && cpu.ShouldPause)
            {
                cpu.RunAgain();
                return;
            }
        }
    }

    static void RepLods<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        int size = i->AddressSize;
        for (ulong count; (count = cpu.GetSized(Cx, size)) != 0;)
        {
            Lods<T>(cpu, i);
            cpu.Advance(Cx, size, -1);
            if (count != 1 && cpu.ShouldPause)
            {
                cpu.RunAgain();
                return;
            }
        }
    }

    static Handler SelectMovs<T>(in Instruction x) where T : unmanaged => IsRepeated(in x) ? &RepMovs<T> : &Movs<T>;
    static Handler SelectStos<T>(in Instruction x) where T : unmanaged => IsRepeated(in x) ? &RepStos<T> : &Stos<T>;
    static Handler SelectLods<T>(in Instruction x) where T : unmanaged => IsRepeated(in x) ? &RepLods<T> : &Lods<T>;

    /// <summary>Where REPE and REPNE have no condition to look at, both are REP.</summary>
    static bool IsRepeated(in Instruction x) => x.HasRepPrefix || x.HasRepnePrefix;
}
