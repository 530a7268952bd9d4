namespace Qkvm.Guest.Tests;

/// <summary>Linux's UHCI, EHCI, hub and HID drivers on our devices: keys and movements arrive, devices come and
/// go.</summary>
public sealed class UsbTests
{
    const string Drivers = "modprobe -a uhci_hcd ehci_pci usbhid hid_generic evdev; ";

    // struct input_event of the newest event device of a name: type, code, value of its first event
    const string Listen = "listen() { for d in /sys/class/input/event*; do grep -q \"$1\" $d/device/name && "
        + "dd if=/dev/input/${d##*/} bs=24 count=$2 2>/dev/null | hexdump -v -s 16 -e '2/2 \"%d \" 1/4 \"%d \" 16/1 \"\"'; "
        + "done; }; ";

    static GuestProcess Start(string socket, params string[] more) => GuestProcess.Start(["-accel", "tcg", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "256M", "-kernel", Surroundings.CardsKernel,
        "-initrd", Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1",
        "-monitor", $"unix:{socket},server=on,wait=off", .. more]);

    [CardsTheory]
    [InlineData("pc", "12")]                                       // on the PIIX3's UHCI
    [InlineData("q35", "480")]                                     // on the ICH9's EHCI
    public void Keys_and_movements_arrive(string machine, string speed)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"];
        using GuestProcess guest = Start(socket, "-machine", $"{machine},usb=on", "-device", "usb-kbd", "-device",
            "usb-mouse");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(socket);
        guest.Send(Drivers + Listen + "while ! grep -q 'USB Mouse' /sys/class/input/event*/device/name || "
            + "! grep -q 'USB Keyboard' /sys/class/input/event*/device/name; do sleep 0.1; done; "
            + "echo SPEED $(cat /sys/bus/usb/devices/?-2/speed /sys/bus/usb/devices/?-2.1/speed 2>/dev/null)\n");
        Assert.StartsWith(speed, guest.Value("SPEED", @"\d+"));
        guest.Send("(sleep 2; echo LISTENING $((1 + 1))) & echo KEY $(listen 'USB Keyboard' 1)\n");
        guest.Value("LISTENING", @"\d");
        Assert.Contains("* Mouse #2", monitor.Run("info mice"));
        monitor.Run("sendkey a");
        guest.Value("KEY", @"4 4 \d+");                            // EV_MSC, MSC_SCAN
        Assert.Contains("Product QEMU USB Keyboard", monitor.Run("info usb"));
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }
}
