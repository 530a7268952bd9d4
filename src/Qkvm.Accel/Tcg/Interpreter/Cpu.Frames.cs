namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Frames of calls, interrupts and returns: RSP changes only when all of a frame has been read or
/// written.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>Sets the part of RSP that addresses the stack; ESP clears the upper half.</summary>
    void SetStackPointer(ulong value, ulong mask) => Rsp = mask == 0xFFFF ? Rsp & ~mask | value & mask : value & mask;

    ulong ReadSized(int segment, ulong offset, int size) => size switch
    {
        1 => Read<byte>(segment, offset),
        2 => Read<ushort>(segment, offset),
        4 => Read<uint>(segment, offset),
        _ => Read<ulong>(segment, offset),
    };

    /// <summary>Pops off the current stack.</summary>
    ref struct PopFrame(Cpu cpu)
    {
        public readonly ulong Mask = cpu.StackMask;
        public ulong Sp = cpu.Rsp & cpu.StackMask;

        public ulong Pop(int size)
        {
            ulong value = cpu.ReadSized(Seg.Ss, Sp, size);
            Skip((uint)size);
            return value;
        }

        public void Skip(uint bytes) => Sp = Sp + bytes & Mask;
        public readonly void Commit() => cpu.SetStackPointer(Sp, Mask);
    }

    /// <summary>Pushes onto the current stack or onto that of the ring which is entered.</summary>
    ref struct PushFrame
    {
        readonly Cpu _cpu;
        readonly Segment _stack;
        readonly ulong _mask;
        readonly int _cpl;
        readonly uint _error;
        ulong _rsp;

        /// <param name="cpu">Whose.</param>
        /// <param name="stack">The stack segment; not looked at in 64-bit mode.</param>
        /// <param name="rsp">Its stack pointer.</param>
        /// <param name="flat">The frame belongs to 64-bit code.</param>
        /// <param name="cpl">Privilege of the accesses.</param>
        /// <param name="error">Error code of #SS, should the frame not fit.</param>
        public PushFrame(Cpu cpu, Segment stack, ulong rsp, bool flat, int cpl, uint error)
        {
            (_cpu, _stack, _rsp, _cpl, _error) = (cpu, stack, rsp, cpl, error);
            _mask = flat ? ulong.MaxValue : (stack.Access & Segment.Big) != 0 ? uint.MaxValue : 0xFFFF;
        }

        /// <summary>The stack in use.</summary>
        public static PushFrame Current(Cpu cpu, uint error) =>
            new(cpu, cpu.State->Ss, cpu.Rsp, cpu.Is64Bit, cpu.Cpl, error);

        public void Push(ulong value, int size)
        {
            ulong sp = _rsp - (ulong)size & _mask, linear = sp;
            if (_mask == ulong.MaxValue)
            {
                linear = _cpu.Untag(sp);
                if (!_cpu.IsCanonical(linear) || !_cpu.IsCanonical(linear + (ulong)size - 1))
                    throw _cpu.Fault(Vector.StackFault, _error);
            }
            else
            {
                if (!Fits(sp, (ulong)size)) throw _cpu.Fault(Vector.StackFault, _error);
                linear = _cpu.WrapLinear(_stack.Base + sp);
            }
            if (_cpl == 3) WriteUser(linear, value, size);
            else WriteSupervisor(linear, value, size);
            _rsp = _mask == 0xFFFF ? _rsp & ~_mask | sp : sp;
        }

        /// <summary>The new stack pointer takes effect.</summary>
        public readonly void Commit() => _cpu.Rsp = _rsp;

        readonly bool Fits(ulong sp, ulong size)
        {
            ulong last = sp + size - 1;
            if ((_stack.Access & (Segment.Code | Segment.ExpandDown)) != Segment.ExpandDown)
                return last <= _stack.Limit;
            return sp > _stack.Limit && last <= _mask;
        }

        readonly void WriteUser(ulong linear, ulong value, int size)
        {
            if (size == 2) _cpu.WriteLinear(linear, (ushort)value);
            else if (size == 4) _cpu.WriteLinear(linear, (uint)value);
            else _cpu.WriteLinear(linear, value);
        }

        readonly void WriteSupervisor(ulong linear, ulong value, int size)
        {
            if (size == 2) _cpu.WriteSystem(linear, (ushort)value);
            else if (size == 4) _cpu.WriteSystem(linear, (uint)value);
            else _cpu.WriteSystem(linear, value);
        }
    }

    /// <summary>The stack of an inner ring, from the task state segment, checked. Intel SDM vol. 3, sections 5.8.5 and
    /// 6.12.1.</summary>
    /// <param name="cpl">The ring that is entered.</param>
    /// <param name="external">Bit EXT of error codes.</param>
    /// <param name="selector">Of the stack segment.</param>
    /// <param name="esp">Its stack pointer.</param>
    Descriptor ReadInnerStack(int cpl, uint external, out ushort selector, out uint esp)
    {
        bool wide = (State->Tr.Access & 8) != 0;
        uint offset = wide ? (uint)cpl * 8 + 4 : (uint)cpl * 4 + 2;
        if (offset + (wide ? 5 : 3) > State->Tr.Limit)
            throw SelectorFault(Vector.InvalidTss, State->Tr.Selector, external);
        ulong at = WrapLinear(State->Tr.Base + offset);
        esp = wide ? ReadSystem<uint>(at) : ReadSystem<ushort>(at);
        selector = ReadSystem<ushort>(at + (wide ? 4u : 2u));
        if (IsNull(selector)) throw Fault(Vector.InvalidTss, external);
        if (!TryReadDescriptor(selector, out Descriptor stack))
            throw SelectorFault(Vector.InvalidTss, selector, external);
        if ((selector & 3) != cpl || stack.Dpl != cpl || !stack.IsWritableData)
            throw SelectorFault(Vector.InvalidTss, selector, external);
        if (!stack.IsPresent) throw SelectorFault(Vector.StackFault, selector, external);
        return stack;
    }

    /// <summary>A stack pointer in the 64-bit TSS. Intel SDM vol. 3, section 8.7.</summary>
    ulong ReadTssRsp(uint offset, uint external)
    {
        if (offset + 7 > State->Tr.Limit) throw SelectorFault(Vector.InvalidTss, State->Tr.Selector, external);
        return ReadSystem<ulong>(State->Tr.Base + offset);
    }
}
