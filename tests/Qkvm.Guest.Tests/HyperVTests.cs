namespace Qkvm.Guest.Tests;

/// <summary>Linux finds Hyper-V's interface, and lives by it.</summary>
public sealed class HyperVTests
{
    const string Enlightenments = "hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-time,hv-vpindex,hv-runtime,hv-synic,"
        + "hv-stimer,hv-stimer-direct,hv-frequencies,hv-reset,hv-crash,hv-reenlightenment,hv-tlbflush,hv-ipi";

    [CardsTheory]
    [InlineData("pc", "")] [InlineData("q35", ",-x2apic")]
    public void Linux_runs_on_its_clock_its_timers_and_its_calls(string machine, string more)
    {
        using GuestProcess guest = GuestProcess.Start("-M", machine, "-accel", "tcg", "-cpu",
            $"max,{Enlightenments}{more}", "-smp", "2", "-m", "256M", "-nodefaults", "-display", "none", "-serial",
            "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
            "-append", "console=ttyS0 quiet panic=-1");
        guest.Expect("TINY READY");
        guest.Send("echo CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)\n");
        Assert.Equal("hyperv_clocksource_tsc_page", guest.Value("CLOCK", "[a-z_]+"));
        guest.Send("echo CALLS $(dmesg | grep -cE "
            + "'Hyper-V: Using (hypercall for remote TLB|IPI hypercalls|enlightened)')\n");
        Assert.Equal("3", guest.Value("CALLS", "[0-9]+"));
        // timer interrupts of both processors; the local APICs' own timers stand still
        guest.Send("echo TIMERS $(awk '/HVS:/ { print ($2 > 0) + ($3 > 0) } /LOC:/ { print $2 + $3 }' "
            + "/proc/interrupts | paste -sd,)\n");
        Assert.Equal("0,2", guest.Value("TIMERS", "[0-9,]+"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
