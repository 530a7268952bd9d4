using Iced.Intel;
using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// IN, OUT, INS and OUTS.
// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
static unsafe partial class SystemOps
{
    static bool SelectPorts(Code code, Insn* i)
    {
        switch (code)
        {
            case Code.In_AL_imm8: return End(i, &InImmediate, 1);
            case Code.In_AX_imm8: return End(i, &InImmediate, 2);
            case Code.In_EAX_imm8: return End(i, &InImmediate, 4);
            case Code.In_AL_DX: return End(i, &InDx, 1);
            case Code.In_AX_DX: return End(i, &InDx, 2);
            case Code.In_EAX_DX: return End(i, &InDx, 4);
            case Code.Out_imm8_AL: return End(i, &OutImmediate, 1);
            case Code.Out_imm8_AX: return End(i, &OutImmediate, 2);
            case Code.Out_imm8_EAX: return End(i, &OutImmediate, 4);
            case Code.Out_DX_AL: return End(i, &OutDx, 1);
            case Code.Out_DX_AX: return End(i, &OutDx, 2);
            case Code.Out_DX_EAX: return End(i, &OutDx, 4);
            case Code.Insb_m8_DX: return End(i, &Ins<byte>, 1);
            case Code.Insw_m16_DX: return End(i, &Ins<ushort>, 2);
            case Code.Insd_m32_DX: return End(i, &Ins<uint>, 4);
            case Code.Outsb_DX_m8: return End(i, &Outs<byte>, 1);
            case Code.Outsw_DX_m16: return End(i, &Outs<ushort>, 2);
            case Code.Outsd_DX_m32: return End(i, &Outs<uint>, 4);
            default: return false;
        }
    }

    static void InImmediate(Cpu cpu, Insn* i) => In(cpu, i, (byte)i->Immediate);
    static void InDx(Cpu cpu, Insn* i) => In(cpu, i, (ushort)cpu.Rdx);
    static void OutImmediate(Cpu cpu, Insn* i) => Out(cpu, i, (byte)i->Immediate);
    static void OutDx(Cpu cpu, Insn* i) => Out(cpu, i, (ushort)cpu.Rdx);

    static void In(Cpu cpu, Insn* i, ushort port)
    {
        cpu.CheckPort(port, i->OperandSize);
        if (cpu.LeavesForPort(i, port, isIn: true, isString: false)) return;
        ulong value = cpu.PortIn(port, i->OperandSize);
        cpu.CheckPortBreakpoints(port, i->OperandSize);
        if (i->OperandSize == 1) cpu.Rax = cpu.Rax & ~0xFFUL | (byte)value;
        else SetGpr(cpu, 0, i->OperandSize, value);
    }

    static void Out(Cpu cpu, Insn* i, ushort port)
    {
        cpu.CheckPort(port, i->OperandSize);
        if (cpu.LeavesForPort(i, port, isIn: false, isString: false)) return;
        cpu.PortOut(port, i->OperandSize, i->OperandSize
            switch { 1 => (byte)cpu.Rax, 2 => (ushort)cpu.Rax, _ => (uint)cpu.Rax });
        cpu.CheckPortBreakpoints(port, i->OperandSize);
    }

    /// <summary>Elements that one visit of a repeated INS or OUTS moves before interrupts are looked at.</summary>
    const int StringChunk = 1024;

    static void Ins<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        var port = (ushort)cpu.Rdx;
        cpu.CheckPort(port, sizeof(T));
        StringLoop loop = new(cpu, i, sizeof(T));
        if (loop.HasNext && cpu.LeavesForPort(i, port, isIn: true, isString: true)) return;
        while (loop.HasNext)
        {
            ulong linear = cpu.Linear(Seg.Es, cpu.Rdi & loop.Mask, sizeof(T), true);
            cpu.ProbeWrite(linear, sizeof(T));                     // the device must not lose what memory cannot take
            ulong value = cpu.PortIn(port, sizeof(T));
            cpu.WriteLinear(linear, *(T*)&value);
            cpu.CheckPortBreakpoints(port, sizeof(T));
            loop.Advance(ref cpu.Rdi);
        }
        loop.End();
    }

    static void Outs<T>(Cpu cpu, Insn* i) where T : unmanaged
    {
        var port = (ushort)cpu.Rdx;
        cpu.CheckPort(port, sizeof(T));
        StringLoop loop = new(cpu, i, sizeof(T));
        if (loop.HasNext && cpu.LeavesForPort(i, port, isIn: false, isString: true)) return;
        while (loop.HasNext)
        {
            ulong value = 0;
            *(T*)&value = cpu.Read<T>(i->Segment, cpu.Rsi & loop.Mask);
            cpu.PortOut(port, sizeof(T), value);
            cpu.CheckPortBreakpoints(port, sizeof(T));
            loop.Advance(ref cpu.Rsi);
        }
        loop.End();
    }

    /// <summary>Counts the repetitions; registers are up to date after each, so that a fault or an interrupt finds the
    /// instruction restartable.</summary>
    ref struct StringLoop
    {
        readonly Cpu _cpu;
        readonly bool _repeats;
        readonly ulong _step;
        public readonly ulong Mask;
        int _left;

        public StringLoop(Cpu cpu, Insn* i, int size)
        {
            _cpu = cpu;
            _repeats = (i->Flags & (InsnFlags.Rep | InsnFlags.Repne)) != 0;
            _step = (cpu.State->RflagsSystem & Flag.Df) != 0 ? (ulong)-size : (ulong)size;
            Mask = i->AddressSize == 8 ? ulong.MaxValue : i->AddressSize == 4 ? uint.MaxValue : 0xFFFF;
            _left = _repeats && (cpu.State->RflagsSystem & Flag.Tf) == 0 ? StringChunk : 1;
        }

        public readonly bool HasNext => _left > 0 && (!_repeats || (_cpu.Rcx & Mask) != 0);

        public void Advance(ref ulong index)
        {
            index = Merge(index, index + _step);
            if (_repeats) _cpu.Rcx = Merge(_cpu.Rcx, _cpu.Rcx - 1);
            _left = _cpu.HasTrap ? 0 : _left - 1;
        }

        /// <summary>Runs the instruction again if there is more to do.</summary>
        public readonly void End()
        {
            if (_repeats && (_cpu.Rcx & Mask) != 0) _cpu.Redirect(_cpu.State->Rip);
        }

        /// <summary>A 32-bit register clears its upper half, a 16-bit one keeps it.</summary>
        readonly ulong Merge(ulong old, ulong value) => Mask == 0xFFFF ? old & ~Mask | value & Mask : value & Mask;
    }
}
