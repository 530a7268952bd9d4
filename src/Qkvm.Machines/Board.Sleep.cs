using Qkvm.Core.Machine;
using Qkvm.Core.Pci;
using Qkvm.Hw.Pci;

namespace Qkvm.Machines;

/// <summary>Sleep states of ACPI.</summary>
public abstract partial class Board
{
    /// <summary>Which sleep states the firmware offers beside S5, as -global says of the chip that has them.</summary>
    internal SleepStates SleepStates { get; private protected init; } = new(ToRam: false, ToDisk: false, 0);

    /// <summary>ACPI's registers; null where there are none.</summary>
    private protected virtual AcpiRegisters? Acpi => null;

    public bool CanSleep => Acpi != null;

    /// <summary>Registers of the chipset that a sleep leaves as they are.</summary>
    private protected virtual IEnumerable<(PciDevice Chip, (int Offset, int Count)[] Registers)> KeptInSleep => [];

    /// <summary>Nothing happens on a machine without ACPI.</summary>
    public virtual void PressPowerButton() => Acpi?.PressPowerButton();

    /// <summary>The guest goes to sleep, or off.</summary>
    internal void Sleep(SleepState state)
    {
        if (state == SleepState.ToRam)
        {
            OnSleep();
            _requests.RequestSleep();
            return;
        }
        if (state == SleepState.ToDisk) Raise(new SuspendDiskEvent());
        RequestShutdown(ShutdownCause.GuestShutdown);
    }

    /// <summary>Something that may wake a sleeping guest has happened; any other hears nothing of it.</summary>
    internal void RequestWakeUp(WakeCause cause)
    {
        if (Acpi?.WakesBy(cause) == true) _requests.RequestWakeUp(cause);
    }

    /// <summary>A reset that leaves memory and what the firmware relies on as they are, and tells what woke the
    /// guest.</summary>
    internal void Wake(WakeCause cause)
    {
        (PciDevice Chip, int Offset, byte[] Contents)[] kept = [.. KeptInSleep.SelectMany(chip => chip.Registers
            .Select(r => (chip.Chip, r.Offset, chip.Chip.Config.Bytes(r.Offset, r.Count).ToArray())))];
        using (Memory.Batch())
        using (Ports.Batch())
        {
            Reset();
            foreach ((PciDevice chip, int offset, byte[] contents) in kept) chip.Restore(offset, contents);
        }
        Acpi?.Wake(cause);
    }

    /// <summary>Leaves word for the firmware.</summary>
    private protected virtual void OnSleep() { }

    /// <summary>What a chip's disable_s3=, disable_s4= and s4_val= say.</summary>
    private protected SleepStates SleepStatesOf(ChipGlobals globals, AcpiRegisters acpi)
    {
        acpi.ToDiskType = (int)globals.Number(SleepStates.S4Value, acpi.ToDiskType, 0, byte.MaxValue);
        return new(globals.Number(SleepStates.DisableS3, 0, 0, 1) == 0,
            globals.Number(SleepStates.DisableS4, 0, 0, 1) == 0, (byte)acpi.ToDiskType);
    }
}

/// <summary>What of ACPI's sleep states there is beside S5.</summary>
/// <param name="ToRam">S3, <paramref name="ToDisk"/> S4.</param>
/// <param name="S4Type">SLP_TYP of S4.</param>
sealed record SleepStates(bool ToRam, bool ToDisk, byte S4Type)
{
    public const string DisableS3 = "disable_s3", DisableS4 = "disable_s4", S4Value = "s4_val";

    /// <summary>Of a chip, as -global names them.</summary>
    public static IEnumerable<string> Globals(string driver) =>
        new[] { DisableS3, DisableS4, S4Value }.Select(name => $"{driver}.{name}");
}
