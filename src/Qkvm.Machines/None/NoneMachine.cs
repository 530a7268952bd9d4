using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Host;
using Qkvm.Machines.Pc;

namespace Qkvm.Machines.None;

/// <summary>-machine none: nothing but monitors, for programs that ask what there is.</summary>
public static class NoneMachine
{
    public static readonly MachineModel Model = new("none", new MachineDefaults(NetworkCard: "", VideoAddress: "")
       
        { MaxCpus = 1, HasDevices = false }, [], static (_, parts) => new NoneBoard(parts))
        { Description = "empty machine" };

    /// <summary>The least that a board is made of, and no processor.</summary>
    sealed class NoneBoard : Board
    {
        const ulong Size = 1 << 20;

        public NoneBoard(BoardParts parts) : base(parts, new PcMemory(
            new MemoryBackend(new GuestRam("none.ram", Size)), new byte[GuestRam.PageSize], parts.Lock))
        {
            if (parts.Config.Kernel is { } kernel)
                throw new ConfigurationException($"-kernel {kernel.File}: -machine none has no processor to run it; "
                    + "name a machine such as pc");
            MakeDevices();
        }

        public override PciBus? Pci => null;

        protected override void OnReset(bool isFirst) { }
    }
}
