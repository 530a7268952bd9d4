using Flag = Qkvm.Accel.Tcg.Rflags;

namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Hardware task switches, not in IA-32e mode. Intel SDM vol. 3, chapter 7.</summary>
public sealed unsafe partial class Cpu
{
    enum TaskSwitch { Jump, Call, Interrupt, Return }

    /// <summary>The 32-bit task state segment, figure 7-2.</summary>
    const uint IoMapBase = 0x66, Tss32Size = 0x68, Tss16Size = 0x2C;

    /// <summary>DR6.BT: the switch entered a task whose T bit is set. DR7: breakpoints of the old task end.</summary>
    const ulong Dr6TaskSwitch = 0x8000, Dr7LocalEnables = 0x155;

    /// <summary>The dynamic part of a task state segment of either width.</summary>
    struct TaskState
    {
        public uint Cr3, Eip, Eflags;
        public fixed uint Gpr[8];
        public fixed ushort Segments[6];
        public ushort Ldt;
        public bool Trap;
    }

    Descriptor CheckTaskOfGate(ushort selector, uint external)
    {
        if ((selector & 4) != 0 || !TryReadDescriptor(selector, out Descriptor task)) throw Gp(selector, external);
        if (task.SystemType is not (Descriptor.Tss16 or Descriptor.Tss32)) throw Gp(selector, external);
        if (!task.IsPresent) throw SelectorFault(Vector.NotPresent, selector, external);
        return task;
    }

    /// <summary>An interrupt or exception through a task gate.</summary>
    void EnterTask(ushort selector, uint? errorCode, ulong returnRip, uint external)
    {
        Descriptor task = CheckTaskOfGate(selector, external);
        CheckTaskSwitch(selector, TaskSwitch.Interrupt, errorCode);
        SwitchTask(selector, task, TaskSwitch.Interrupt, returnRip, external);
        if (errorCode is not { } error) return;
        PushFrame frame = PushFrame.Current(this, external);
        frame.Push(error, (task.Type & 8) != 0 ? 4 : 2);
        frame.Commit();
    }

    /// <summary>IRET with NT set.</summary>
    void ReturnToPreviousTask(ulong nextRip)
    {
        ushort selector = ReadSystem<ushort>(WrapLinear(State->Tr.Base));
        if ((selector & 4) != 0 || !TryReadDescriptor(selector, out Descriptor task))
            throw SelectorFault(Vector.InvalidTss, selector);
        if (task.SystemType is not (Descriptor.Tss16Busy or Descriptor.Tss32Busy))
            throw SelectorFault(Vector.InvalidTss, selector);
        if (!task.IsPresent) throw SelectorFault(Vector.NotPresent, selector);
        CheckTaskSwitch(selector, TaskSwitch.Return, null);
        SwitchTask(selector, task, TaskSwitch.Return, nextRip, 0);
    }

    /// <summary>Section 7.3. Faults after the new task's registers are loaded belong to the new task.</summary>
    /// <param name="selector">Of the new task's TSS.</param>
    /// <param name="task">Its descriptor; type, presence and privilege are checked.</param>
    /// <param name="cause">How it came to the switch.</param>
    /// <param name="nextRip">Where the old task goes on.</param>
    /// <param name="external">Bit EXT of error codes.</param>
    void SwitchTask(ushort selector, in Descriptor task, TaskSwitch cause, ulong nextRip, uint external)
    {
        bool wide = (task.Type & 8) != 0;
        if (task.Limit < (wide ? Tss32Size : Tss16Size) - 1) throw SelectorFault(Vector.InvalidTss, selector, external);
        TaskState state = wide ? ReadTask32(task.Base) : ReadTask16(task.Base);
        bool loadsCr3 = wide && (State->Cr0 & Cr0.Pg) != 0;
        if (loadsCr3) CheckCr3(state.Cr3);

        ulong flags = AllFlags;
        if (cause == TaskSwitch.Return) flags &= ~Flag.Nt;
        SaveTask(nextRip, flags);
        bool nests = cause is TaskSwitch.Call or TaskSwitch.Interrupt;
        if (nests)
        {
            WriteSystem(WrapLinear(task.Base), State->Tr.Selector);
            state.Eflags |= (uint)Flag.Nt;
        }
        else SetBusy(State->Tr.Selector, false);
        if (cause != TaskSwitch.Return) SetBusy(selector, true);

        State->Tr = task.ToSegment(selector);
        State->Tr.Access |= Descriptor.Busy;
        ApplyCr0(State->Cr0 | Cr0.Ts);
        if (loadsCr3) ApplyCr3(state.Cr3);
        WriteDr7(State->Dr[7] & ~Dr7LocalEnables);
        Redirect(state.Eip);
        AllFlags =
            state.Eflags & (Flag.Arithmetic | Flag.Tf | Flag.If | Flag.Df | Flag.Iopl | Flag.Nt | Flag.Rf | Flag.Vm
            | Flag.Ac | Flag.Vif | Flag.Vip | Flag.Id);
        for (int i = 0; i < 8; i++) State->Gpr[i] = state.Gpr[i];
        LoadTaskSegments(ref state, external);
        ModeChanged();
        if (state.Eip > State->Cs.Limit) throw Gp(external);
        if (state.Trap)
        {
            State->Dr[6] |= Dr6TaskSwitch;
            throw Fault(Vector.Debug);
        }
    }

    void SetBusy(ushort selector, bool busy)
    {
        ulong at = WrapLinear(State->GdtrBase + (selector & 0xFFF8u) + 5);
        byte access = ReadSystem<byte>(at);
        WriteSystem<byte>(at, (byte)(busy ? access | Descriptor.Busy : access & ~Descriptor.Busy));
    }

    TaskState ReadTask32(ulong at)
    {
        var state = new TaskState
        {
            Cr3 = ReadSystem<uint>(WrapLinear(at + 0x1C)), Eip = ReadSystem<uint>(WrapLinear(at + 0x20)),
            Eflags = ReadSystem<uint>(WrapLinear(at + 0x24)), Ldt = ReadSystem<ushort>(WrapLinear(at + 0x60)),
            Trap = (ReadSystem<byte>(WrapLinear(at + 0x64)) & 1) != 0,
        };
        for (uint i = 0; i < 8; i++) state.Gpr[i] = ReadSystem<uint>(WrapLinear(at + 0x28 + i * 4));
        for (uint i = 0; i < 6; i++) state.Segments[i] = ReadSystem<ushort>(WrapLinear(at + 0x48 + i * 4));
        return state;
    }

    /// <summary>Figure 7-10. The upper halves of registers are undefined and read as 0; FS and GS become
    /// null.</summary>
    TaskState ReadTask16(ulong at)
    {
        var state = new TaskState
        {
            Eip = ReadSystem<ushort>(WrapLinear(at + 0x0E)), Eflags = ReadSystem<ushort>(WrapLinear(at + 0x10)),
            Ldt = ReadSystem<ushort>(WrapLinear(at + 0x2A)),
        };
        for (uint i = 0; i < 8; i++) state.Gpr[i] = ReadSystem<ushort>(WrapLinear(at + 0x12 + i * 2));
        for (uint i = 0; i < 4; i++) state.Segments[i] = ReadSystem<ushort>(WrapLinear(at + 0x22 + i * 2));
        return state;
    }

    void SaveTask(ulong rip, ulong flags)
    {
        ulong at = State->Tr.Base;
        if ((State->Tr.Access & 8) != 0)
        {
            WriteSystem(WrapLinear(at + 0x20), (uint)rip);
            WriteSystem(WrapLinear(at + 0x24), (uint)flags);
            for (uint i = 0; i < 8; i++) WriteSystem(WrapLinear(at + 0x28 + i * 4), (uint)State->Gpr[i]);
            for (uint i = 0; i < 6; i++) WriteSystem(WrapLinear(at + 0x48 + i * 4), State->Segment((int)i).Selector);
            return;
        }
        WriteSystem(WrapLinear(at + 0x0E), (ushort)rip);
        WriteSystem(WrapLinear(at + 0x10), (ushort)flags);
        for (uint i = 0; i < 8; i++) WriteSystem(WrapLinear(at + 0x12 + i * 2), (ushort)State->Gpr[i]);
        for (uint i = 0; i < 4; i++) WriteSystem(WrapLinear(at + 0x22 + i * 2), State->Segment((int)i).Selector);
    }

    /// <summary>All selectors first, then the descriptors in the order LDT, CS, SS, data.</summary>
    void LoadTaskSegments(ref TaskState state, uint external)
    {
        bool isVirtual = IsVirtual8086;
        State->Cpl = isVirtual ? 3 : state.Segments[Seg.Cs] & 3;
        for (int i = 0; i < Seg.Count; i++)
            if (isVirtual) SetRealSegment(i, state.Segments[i]);
            else SetNullSegment(i, state.Segments[i]);
        State->Ldtr = new Segment { Selector = state.Ldt };
        LoadTaskLdt(state.Ldt, external);
        if (isVirtual) return;
        LoadTaskCode(state.Segments[Seg.Cs], external);
        LoadTaskStack(state.Segments[Seg.Ss], external);
        LoadTaskData(Seg.Es, state.Segments[Seg.Es], external);
        LoadTaskData(Seg.Ds, state.Segments[Seg.Ds], external);
        LoadTaskData(Seg.Fs, state.Segments[Seg.Fs], external);
        LoadTaskData(Seg.Gs, state.Segments[Seg.Gs], external);
    }

    void LoadTaskLdt(ushort selector, uint external)
    {
        if (IsNull(selector)) return;
        if ((selector & 4) != 0 || !TryReadDescriptor(selector, out Descriptor table)
            || table.SystemType != Descriptor.Ldt
            || !table.IsPresent) throw SelectorFault(Vector.InvalidTss, selector, external);
        State->Ldtr = table.ToSegment(selector);
    }

    void LoadTaskCode(ushort selector, uint external)
    {
        if (IsNull(selector) || !TryReadDescriptor(selector, out Descriptor code) || !code.IsCode
            || (code.IsConforming ? code.Dpl > Cpl : code.Dpl != Cpl))
            throw SelectorFault(Vector.InvalidTss, selector, external);
        if (!code.IsPresent) throw SelectorFault(Vector.NotPresent, selector, external);
        MarkAccessed(code);
        SetSegment(Seg.Cs, selector, code);
    }

    void LoadTaskStack(ushort selector, uint external)
    {
        if (IsNull(selector) || !TryReadDescriptor(selector, out Descriptor stack) || !stack.IsWritableData
            || (selector & 3) != Cpl || stack.Dpl != Cpl) throw SelectorFault(Vector.InvalidTss, selector, external);
        if (!stack.IsPresent) throw SelectorFault(Vector.StackFault, selector, external);
        MarkAccessed(stack);
        SetSegment(Seg.Ss, selector, stack);
    }

    void LoadTaskData(int segment, ushort selector, uint external)
    {
        if (IsNull(selector)) return;
        if (!TryReadDescriptor(selector, out Descriptor data) || !data.IsReadable
            || !data.IsConforming && data.Dpl < Math.Max(Cpl, selector & 3))
            throw SelectorFault(Vector.InvalidTss, selector, external);
        if (!data.IsPresent) throw SelectorFault(Vector.NotPresent, selector, external);
        MarkAccessed(data);
        SetSegment(segment, selector, data);
    }
}
