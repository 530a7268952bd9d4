namespace Qkvm.Accel.Tcg;

// SAFETY: State and _jit lie in the vCPU's own region, which is freed after its thread has ended.
/// <summary>Who may use I/O ports. Intel SDM vol. 1, section 19.5.</summary>
public sealed unsafe partial class Cpu
{
    /// <summary>IOPL, or else the task's I/O permission bitmap.</summary>
    internal void CheckPort(ushort port, int size)
    {
        if (!IsProtected || !IsVirtual8086 && Cpl <= Iopl) return;
        if ((State->Tr.Access & 8) == 0 || State->Tr.Limit < IoMapBase + 1) throw Gp();
        uint at = ReadSystem<ushort>(WrapLinear(State->Tr.Base + IoMapBase)) + (uint)port / 8;
        if (at + 1 > State->Tr.Limit) throw Gp();
        uint bits = (uint)ReadSystem<ushort>(WrapLinear(State->Tr.Base + at)) >> (port & 7);
        if ((bits & (1u << size) - 1) != 0) throw Gp();
    }
}
