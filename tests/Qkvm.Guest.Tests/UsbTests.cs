namespace Qkvm.Guest.Tests;

/// <summary>Linux's UHCI, EHCI, hub and HID drivers on our devices: keys and movements arrive.</summary>
public sealed class UsbTests
{
    /// <summary>A function of the guest's shell: the event device of a name.</summary>
    internal const string Find = "of() { for d in /sys/class/input/event*; do grep -qs \"$1\" $d/device/name && "
        + "echo /dev/input/${d##*/}; done; }; ";

    const string Drivers = "modprobe -a uhci_hcd ehci_pci usbhid hid_generic evdev; " + Find
        + "while [ ! -e \"$(of 'USB Keyboard')\" -o ! -e \"$(of 'USB Mouse')\" ]; do sleep 0.1; done; ";

    /// <summary>Type, code and value of each struct input_event that is piped to it.</summary>
    internal const string Decode = "2>/dev/null | hexdump -v -e '24/1 \"%02x\" \"\\n\"' | cut -c33-";

    [CardsTheory]
    [InlineData("pc", "12")]                                       // on the PIIX3's UHCI and a hub
    [InlineData("q35", "480")]                                     // on the ICH9's EHCI
    public void Keys_and_movements_arrive(string machine, string speed)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-machine", $"{machine},usb=on", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "256M", "-kernel", Surroundings.CardsKernel,
            "-initrd", Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1",
            "-S", "-monitor", $"unix:{socket},server=on,wait=off",
            "-device", "usb-kbd,id=keys", "-device", "usb-mouse");
        using var monitor = new MonitorClient(socket);
        Assert.Contains("* Mouse #2: QEMU PS/2 Mouse", monitor.Run("info mice"));
        monitor.Run("cont");
        guest.Expect("TINY READY");
        guest.Send(Drivers + "exec 3<$(of 'USB Keyboard') 4<$(of 'USB Mouse'); echo OPEN $((1 + 1))\n");
        guest.Value("OPEN", @"\d");
        Assert.Contains($"Speed {speed} Mb/s, Product QEMU USB Keyboard, ID: keys", monitor.Run("info usb"));
        Assert.True(SpinWait.SpinUntil(() => monitor.Run("info mice").Contains("* Mouse #4: QEMU HID Mouse",
            StringComparison.Ordinal), Surroundings.Patience), "Linux does not listen to the mouse");
        monitor.Run("sendkey a");
        guest.Send($"echo KEY $(dd bs=24 count=2 <&3 {Decode})\n");
        Assert.Equal("0400040004000700 01001e0001000000", guest.Value("KEY", "[0-9a-f]{16} [0-9a-f]{16}"));
        monitor.Run("mouse_move 5 7");
        guest.Send($"echo MOVE $(dd bs=24 count=2 <&4 {Decode})\n");
        Assert.Equal("0200000005000000 0200010007000000", guest.Value("MOVE", "[0-9a-f]{16} [0-9a-f]{16}"));
        Assert.Equal("", monitor.Run("device_del keys"));
        guest.Send("while [ -e \"$(of 'USB Keyboard')\" ]; do sleep 0.1; done; echo WENT $((1 + 1)); poweroff -f\n");
        Assert.Equal("2", guest.Value("WENT", @"\d"));
        Assert.Equal(0, guest.WaitExit());
    }
}
