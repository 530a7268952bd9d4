using System.Net.Sockets;
using System.Security.Cryptography;
using Qkvm.Testing;

namespace Qkvm.Guest.Tests;

/// <summary>Linux takes many cards at once through what they are for: few guests for all of them.</summary>
public sealed class CardsTests : IDisposable
{
    const int Hertz = 440, BeepRate = 44100;
    const string ToneOn = @"\22\0\2\0\270\1\0\0", ToneOff = @"\22\0\2\0\0\0\0\0"; // EV_SND, SND_TONE and hertz
    const string Time = @"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";       // of an input_event

    // A driver that says how long, and forgets to say that it lives; the one before ends.
    const string Forget = "killall watchdog 2>/dev/null; sleep 1; watchdog -T 2 -t 300 -F /dev/watchdog & ";

    readonly ScratchDirectory _files = new();

    public void Dispose() => _files.Dispose();

    GuestProcess Start(params string[] more) => GuestProcess.Start(["-accel", "tcg", "-m", "256M", "-nodefaults",
        "-display", "none", "-serial", "stdio", "-no-reboot",
        "-monitor", $"unix:{_files["monitor"]},server=on,wait=off",
        "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
        "-append", "console=ttyS0 quiet panic=-1", .. more]);

    [CardsTheory]
    [InlineData("pc")]
    public void Ports_keys_tones_and_a_watchdog(string machine)
    {
        using GuestProcess guest = Start(["-machine", $"{machine},pcspk-audiodev=a",
            "-audiodev", $"wav,id=a,path={_files["beep.wav"]}",
            "-device", "ib700", "-device", "vmgenid,guid=12345678-1234-1234-1234-123456789abc",
            .. Files("serial", 3), "-device", "pci-serial-2x,chardev1=serial1,chardev2=serial2",
            "-device", "pci-serial,chardev=serial3", "-device", "virtio-keyboard-pci", "-device", "virtio-mouse-pci",
            "-device", "virtio-tablet-pci", "-device", "virtio-serial-pci", "-chardev",
            $"socket,id=p,path={_files["port"]},server=on,wait=off", "-device", "virtserialport,chardev=p,name=port"]);
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(_files["monitor"]);
        guest.Send("stty -echo; PS1=; modprobe -a ib700wdt virtio_input evdev virtio_console pcspkr; " + UsbTests.Find
            + "for i in 1 2 3; do echo S$i >/dev/ttyS$i; done; "
            + "echo ID $(ls /sys/bus/acpi/drivers/vmgenid | grep -c QEMUVGID)\n");
        Assert.Equal("1", guest.Value("ID", @"\d"));
        Assert.Equal(["S1\r\n", "S2\r\n", "S3\r\n"],
            Enumerable.Range(1, 3).Select(i => File.ReadAllText(_files[$"serial{i}"])));

        guest.Send("exec 3<$(of 'Virtio Keyboard') 4<$(of 'Virtio Mouse'); echo OPEN $((1 + 1))\n");
        guest.Value("OPEN", @"\d");
        monitor.Run("sendkey a");
        guest.Send($"echo KEY $(dd bs=24 count=2 <&3 {UsbTests.Decode})\n");
        Assert.Equal("01001e0001000000 0000000000000000", guest.Value("KEY", "[0-9a-f]{16} [0-9a-f]{16}"));
        monitor.Run("mouse_move 5 7");
        guest.Send($"echo MOVE $(dd bs=24 count=2 <&4 {UsbTests.Decode})\n");
        Assert.Equal("0200000005000000 0200010007000000", guest.Value("MOVE", "[0-9a-f]{16} [0-9a-f]{16}"));
        guest.Send("tablet=$(of 'Virtio Tablet'); "
            + "echo AXES $(cat /sys/class/input/${tablet##*/}/device/capabilities/abs)\n");
        Assert.Equal("3", guest.Value("AXES", @"\d+"));            // X and Y

        guest.Send($"tone() {{ printf '{Time}'$1 >$(of 'PC Speaker'); }}; "
            + $"tone '{ToneOn}'; sleep 1; tone '{ToneOff}'\n");
        Echo(guest, "/dev/vport*p1", "port", 1 << 20);

        Assert.Equal("", monitor.Run("watchdog_action inject-nmi"));
        guest.Send(Forget + "while ! dmesg | grep -q 'NMI received'; do sleep 0.1; done; echo NMI $((1 + 1))\n");
        Assert.Equal("2", guest.Value("NMI", @"\d"));
        Assert.Equal("", monitor.Run("watchdog_action poweroff"));
        guest.Send(Forget + "\n");
        Assert.Equal(0, guest.WaitExit());
        short[] heard = [.. File.ReadAllBytes(_files["beep.wav"]).Skip(44).Chunk(4)
            .Select(frame => BitConverter.ToInt16(frame)).SkipWhile(sample => sample == 0).Take(BeepRate / 2)];
        Assert.InRange(Heard.FrequencyOf(heard, BeepRate), Hertz - 5, Hertz + 5);
    }

    [CardsTheory]
    [InlineData("q35")]
    public void What_hangs_on_USB_and_another_watchdog(string machine)
    {
        byte[] disk = RandomNumberGenerator.GetBytes(4 << 20);
        using GuestProcess guest = Start("-machine", machine, "-device", "i6300esb",
            "-device", "pci-ohci,id=ohci", "-drive",
            $"if=none,id=stick,format=raw,file={_files.Write("stick", disk)}",
            "-device", "usb-storage,bus=ohci.0,drive=stick", "-device", "usb-kbd,bus=ohci.0",
            "-device", "qemu-xhci,id=xhci", "-netdev", "user,id=net", "-device", "usb-net,bus=xhci.0,netdev=net",
            "-chardev", $"socket,id=p,path={_files["port"]},server=on,wait=off",
            "-device", "usb-serial,bus=xhci.0,chardev=p");
        guest.Expect("TINY READY");
        using var monitor = new MonitorClient(_files["monitor"]);
        guest.Send("stty -echo; PS1=; modprobe -a i6300esb ohci_pci xhci_pci usb_storage sd_mod usbhid hid_generic "
            + $"evdev cdc_ether rndis_host ftdi_sio; {UsbTests.Find}"
            + "while [ ! -b /dev/sda ]; do sleep 0.1; done; echo SUM $(md5sum </dev/sda)\n");
        Assert.Equal(Convert.ToHexStringLower(MD5.HashData(disk)), guest.Value("SUM", "[0-9a-f]{32}"));

        guest.Send("while [ ! -e \"$(of 'USB Keyboard')\" -o ! -e \"$(of 'Power Button')\" ]; do sleep 0.1; "
            + "done; "
            + "exec 3<$(of 'USB Keyboard') 4<$(of 'Power Button'); echo OPEN $((1 + 1))\n");
        guest.Value("OPEN", @"\d");
        monitor.Run("sendkey b");
        guest.Send($"echo KEY $(dd bs=24 count=2 <&3 {UsbTests.Decode})\n");
        Assert.Equal("0400040005000700 0100300001000000", guest.Value("KEY", "[0-9a-f]{16} [0-9a-f]{16}"));

        guest.Send("net() { while [ ! -e /sys/class/net/usb0 ]; do sleep 0.1; done; ifconfig usb0 10.0.2.15 up; "
            + "basename $(readlink /sys/class/net/usb0/device/driver); "
            + "ping -c 1 -s 1400 -w 20 10.0.2.2 | grep -o '[0-9]* packets received'; }; echo CDC $(net); "
            + "echo 2 >$(readlink -f /sys/class/net/usb0/device/..)/bConfigurationValue; echo RNDIS $(net)\n");
        Assert.Equal("cdc_ether 1 packets received", guest.Value("CDC", @"\w+ \d packets received"));
        Assert.Equal("rndis_host 1 packets received", guest.Value("RNDIS", @"\w+ \d packets received"));
        Echo(guest, "/dev/ttyUSB0", "port", 1 << 17, "stty -F /dev/ttyUSB0 raw -echo; ");

        Assert.Equal("", monitor.Run("watchdog_action debug"));
        guest.Send(Forget + "\n");
        Assert.True(SpinWait.SpinUntil(() => guest.Errors.Contains("watchdog: timer fired", StringComparison.Ordinal),
            Surroundings.Patience), "the watchdog does not bark");
        Assert.Equal("", monitor.Run("watchdog_action shutdown"));
        guest.Send($"{Forget} echo BUTTON $(dd bs=24 count=1 <&4 {UsbTests.Decode})\n");
        Assert.Equal("0100740001000000", guest.Value("BUTTON", "[0-9a-f]{16}"));
        Assert.Equal("", monitor.Run("watchdog_action pause"));
        guest.Send(Forget + "\n");
        Assert.True(SpinWait.SpinUntil(() => monitor.Run("info status").Contains("paused (watchdog)",
            StringComparison.Ordinal), Surroundings.Patience), "the machine goes on");
        Assert.Equal("", monitor.Run("watchdog_action reset"));
        Assert.Equal("", monitor.Run("cont"));
        guest.Send(Forget + "\n");
        Assert.Equal(0, guest.WaitExit());
    }

    [GuestTheory]
    [InlineData("piix3-usb-uhci")] [InlineData("pci-ohci")] [InlineData("usb-ehci")] [InlineData("qemu-xhci")]
    public void A_key_on_USB_opens_the_firmware_s_menu(string controller)
    {
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-m", "64M", "-nodefaults", "-display", "none",
            "-machine", "pc,graphics=off", "-serial", "stdio", "-boot", "menu=on,splash-time=60000",
            "-device", $"{controller},id=usb", "-device", "usb-kbd,bus=usb.0", "-monitor",
            $"unix:{_files["monitor"]},server=on,wait=off");
        using var monitor = new MonitorClient(_files["monitor"]);
        guest.Expect("boot menu");
        Assert.True(SpinWait.SpinUntil(() => monitor.Run("info usb").Contains("Device 0.1", StringComparison.Ordinal),
            Surroundings.Patience), "SeaBIOS gives the keyboard no address");
        monitor.Run("sendkey esc");
        guest.Expect("Select boot device");
        monitor.SendLine("quit");
        Assert.Equal(0, guest.WaitExit());
    }

    /// <summary>Bytes go to the guest's port and come back, and the guest has seen the same.</summary>
    void Echo(GuestProcess guest, string port, string socket, int count, string before = "")
    {
        byte[] bytes = RandomNumberGenerator.GetBytes(count), back = new byte[count];
        using var end = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        end.Connect(new UnixDomainSocketEndPoint(_files[socket]));
        end.ReceiveTimeout = (int)Surroundings.Patience.TotalMilliseconds;
        guest.Send($"while [ ! -e {port} ]; do sleep 0.1; done; {before}exec 5<>$(echo {port}); echo HAS $((1 + 1))\n");
        guest.Value("HAS", @"\d");
        guest.Send($"head -c {count} <&5 >/tmp/got; echo GOT $(md5sum </tmp/got); cat /tmp/got >&5\n");
        Task sending = Task.Run(() => end.Send(bytes));
        Assert.Equal(Convert.ToHexStringLower(MD5.HashData(bytes)), guest.Value("GOT", "[0-9a-f]{32}"));
        sending.Wait();
        using (var stream = new NetworkStream(end)) stream.ReadExactly(back);
        Assert.Equal(bytes, back);
    }

    /// <summary>Character devices into files of the same names, numbered from one.</summary>
    IEnumerable<string> Files(string name, int count) => Enumerable.Range(1, count).SelectMany(i =>
        (string[])["-chardev", $"file,id={name}{i},path={_files[$"{name}{i}"]}"]);
}
