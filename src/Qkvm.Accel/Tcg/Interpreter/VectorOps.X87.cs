using Iced.Intel;
using Qkvm.Accel.Tcg.Thunks;

namespace Qkvm.Accel.Tcg;
using unsafe Handler = delegate*<Cpu, Insn*, void>;

// SAFETY: an Insn lies in its arena until its block has ended; what its operands point at is the vCPU's own state, or
// RAM that was looked up for the access.
// The x87: control instructions here, all that computes through thunks.
// Deviations: FOP, FCS and FDS are 0.
static unsafe partial class VectorOps
{
    const int OpcodeAt = 6, InstructionPointerAt = 8, DataPointerAt = 16;
    const ushort NoStore = 0x19;                                    // UE OE IE: unmasked, nothing is stored
    const ushort ControlValid = 0x1F3F, ControlFixed = 0x40, AllMasks = 0x3F;

    static Handler SelectX87(in Instruction x, Insn* i)
    {
        switch (x.Mnemonic)
        {
            case Mnemonic.Fnstcw: return &StoreControl;
            case Mnemonic.Fldcw: return &LoadControl;
            case Mnemonic.Fnstsw: return x.Op0Kind == OpKind.Memory ? &StoreStatus : &StatusToAx;
            case Mnemonic.Fninit: return &Initialize;
            case Mnemonic.Fnclex: return &ClearExceptions;
            case Mnemonic.Fnstenv: return SetEnvironment(i, x.Code == Code.Fnstenv_m28byte, &StoreEnvironment);
            case Mnemonic.Fldenv: return SetEnvironment(i, x.Code == Code.Fldenv_m28byte, &LoadEnvironment);
            case Mnemonic.Fnsave: return SetEnvironment(i, x.Code == Code.Fnsave_m108byte, &SaveAll);
            case Mnemonic.Frstor: return SetEnvironment(i, x.Code == Code.Frstor_m108byte, &RestoreAll);
            case Mnemonic.Fneni or Mnemonic.Fndisi or Mnemonic.Fnsetpm: return &NoOperation;
            case Mnemonic.Frstpm or Mnemonic.Fnstdw or Mnemonic.Fnstsg: return null;
        }
        Thunk thunk = s_thunks.X87(x);
        i->Extra = (ulong)thunk.Address;
        i->OperandSize = thunk.MemorySize;
        i->Reg2 = (byte)thunk.Traits;
        i->Reg1 = 0;
        return &RunX87;
    }

    static Handler SetEnvironment(Insn* i, bool wide, Handler run)
    {
        i->OperandSize = (byte)(wide ? 4 : 2);
        return run;
    }

    static void CheckWaiting(Cpu cpu)
    {
        cpu.CheckX87Available();
        cpu.CheckX87Pending();
    }

    static void RunX87(Cpu cpu, Insn* i)
    {
        CheckWaiting(cpu);
        var traits = (ThunkTraits)i->Reg2;
        CpuState* state = cpu.State;
        byte* memory = null, target = null;
        ulong linear = 0;
        bool stores = (traits & ThunkTraits.Stores) != 0;
        if (stores)
        {
            linear = cpu.VectorLinear(i, i->OperandSize, write: true);
            target = cpu.VectorTarget(i, linear, i->OperandSize);
            memory = state->VectorScratch;
        }
        else if (i->OperandSize != 0) memory = Source(cpu, i);
        ushort control = cpu.X87Control;
        bool ignores = cpu.IsX87Pending;
        if (ignores) cpu.X87Control |= AllMasks;

        byte* area = state->Xsave.Bytes;
        ulong flags = (traits & (ThunkTraits.ReadsFlags | ThunkTraits.WritesFlags)) != 0 ? cpu.ArithmeticFlags | 2 : 2;
        flags = ((delegate* unmanaged[SuppressGCTransition]<byte*, byte*, ulong, ulong>)i->Extra)(area, memory, flags);
        if ((traits & ThunkTraits.WritesFlags) != 0) cpu.ArithmeticFlags = Thunk.EFlags(flags);
        *(ushort*)(area + OpcodeAt) = 0;
        *(ulong*)(area + InstructionPointerAt) = state->Rip;
        *(ulong*)(area + DataPointerAt) = memory != null ? cpu.EffectiveOffset(i) : 0;
        if (ignores)
        {
            cpu.X87Control = control;
            cpu.SummarizeX87();
        }
        else if (stores && (cpu.X87Status & ~control & NoStore) != 0) return;
        if (!stores) return;
        if (target != null) CopyOperand(target, memory, i->OperandSize);
        else cpu.WriteVector(linear, memory, i->OperandSize);
    }

    /// <summary>WAIT looks at CR0.MP, too.</summary>
    static void Wait(Cpu cpu, Insn* i)
    {
        const ulong both = Cr0.Mp | Cr0.Ts;
        if ((cpu.State->Cr0 & both) == both) throw cpu.Fault(Vector.DeviceNotAvailable);
        cpu.CheckX87Pending();
    }

    static void NoOperation(Cpu cpu, Insn* i) => cpu.CheckX87Available();

    static void StoreControl(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        cpu.Store(i, cpu.X87Control);
    }

    static void LoadControl(Cpu cpu, Insn* i)
    {
        CheckWaiting(cpu);
        SetControl(cpu, cpu.Load<ushort>(i));
    }

    static void SetControl(Cpu cpu, ushort value)
    {
        cpu.X87Control = (ushort)(value & ControlValid | ControlFixed);
        cpu.SummarizeX87();
    }

    static void StoreStatus(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        cpu.Store(i, cpu.X87Status);
    }

    static void StatusToAx(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        cpu.SetReg((byte)0, cpu.X87Status);
    }

    static void Initialize(Cpu cpu, Insn* i)
    {
        cpu.CheckX87Available();
        Initialize(cpu);
    }

    /// <summary>Registers keep their contents.</summary>
    static void Initialize(Cpu cpu)
    {
        cpu.SetX87Top(0);
        new Span<byte>(cpu.State->Xsave.Bytes, XsaveArea.Mxcsr).Clear();
        cpu.X87Control = ControlInitial;
        cpu.SummarizeX87();
    }

    static void ClearExceptions(Cpu cpu, Insn* i)
    {
        const ushort kept = 0x7F00;
        cpu.CheckX87Available();
        cpu.X87Status &= kept;
        cpu.SummarizeX87();
    }

    /// <summary>MMX state becomes empty x87 state.</summary>
    static void Emms(Cpu cpu, Insn* i)
    {
        cpu.CheckMmx();
        cpu.SetX87Top(0);
        cpu.State->Xsave.Bytes[XsaveArea.Ftw] = 0;
    }
}
