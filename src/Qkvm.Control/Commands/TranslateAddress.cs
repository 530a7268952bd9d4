using Qkvm.Control.Hmp;
using Qkvm.Host;

namespace Qkvm.Control.Commands;

/// <summary>Where an address is elsewhere: the guest's virtual and physical ones, and the host's.</summary>
static class TranslateAddress
{
    public static readonly Command Command = new HumanCommand("gva2gpa", "addr", "print the guest physical address " +
        "corresponding to a guest virtual address",
        (monitor, words) =>
        {
            ulong address = words.Number();
            words.End();
            monitor.Write(!monitor.Context.Cpu.TryTranslate(address, out ulong physical) ? "Unmapped\n"
                : physical == 0 ? "gpa: 0\n" : $"gpa: 0x{physical:x}\n");
        });

    public static readonly Command ToHostVirtual = new HumanCommand("gpa2hva", "addr", "print the host virtual "
        + "address corresponding to a guest physical address", static (monitor, words) =>
        {
            (ulong address, GuestRam ram, ulong offset) = Find(monitor, words);
            monitor.Write($"Host virtual address for 0x{address:x} ({ram.Name}) is 0x{ram.HostAddress + offset:x}\n");
        });

    public static readonly Command ToHostPhysical = new HumanCommand("gpa2hpa", "addr", "print the host physical "
        + "address corresponding to a guest physical address", static (monitor, words) =>
        {
            (ulong address, GuestRam ram, ulong offset) = Find(monitor, words);
            ulong physical = HostProcess.PhysicalAddressOf(ram.HostAddress + offset)
                ?? throw new Core.Machine.CommandException("Page not present");
            monitor.Write($"Host physical address for 0x{address:x} ({ram.Name}) is 0x{physical:x}\n");
        });

    static (ulong Address, GuestRam Ram, ulong Offset) Find(IMonitor monitor, MonitorArguments words)
    {
        ulong address = words.Number();
        words.End();
        Core.Memory.AddressSpace memory = monitor.Context.Machine.Board.Memory;
        if (memory.TryGetRam(address, write: false, out GuestRam ram, out ulong offset, out _))
            return (address, ram, offset);
        throw new MonitorException(memory.View.TryFind(address, out _) ? $"Memory at address 0x{address:x} is not RAM"
            : $"No memory is mapped at address 0x{address:x}");
    }
}
