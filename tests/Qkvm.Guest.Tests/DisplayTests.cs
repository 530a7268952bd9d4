using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>Linux shows its console on each display that it has a driver for.</summary>
public sealed class DisplayTests
{
    [CardsTheory]
    [InlineData("bochs-display")] [InlineData("secondary-vga")] [InlineData("virtio-gpu-pci")]
    [InlineData("virtio-vga")]
    public void The_console_is_on_the_screen(string device)
    {
        using var directory = new ScratchDirectory();
        string socket = directory["monitor"], picture = directory["screen.ppm"];
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-m", "256M", "-nodefaults", "-display", "none",
            "-serial", "stdio", "-no-reboot", "-device", $"{device},xres=1024,yres=768",
            "-kernel", Surroundings.CardsKernel, "-initrd", Surroundings.CardsSmallInitrd,
            "-append", "console=tty0 console=ttyS0 quiet panic=-1", "-monitor", $"unix:{socket},server=on,wait=off");
        guest.Expect("TINY READY");
        guest.Send("while ! grep -q drm /proc/fb; do sleep 0.1; done; "
            + "echo FB $(cat /sys/class/graphics/fb0/virtual_size)\n");
        Assert.Equal("1024,768", guest.Value("FB", "[0-9,]+"));
        guest.Send("clear >/dev/tty0; echo CLEARED $((1 + 1))\n");
        guest.Expect("CLEARED 2");
        using var monitor = new MonitorClient(socket);
        // Linux draws some time after it was told to: first it is dark, but for the cursor, then there is text.
        Assert.True(SpinWait.SpinUntil(() => Lit(monitor, picture) < 1000, Surroundings.Patience),
            "the cleared screen is not dark");
        guest.Send("for i in $(seq 20); do echo 'on the screen'; done >/dev/tty0; echo SHOWN $((1 + 1))\n");
        guest.Expect("SHOWN 2");
        Assert.True(SpinWait.SpinUntil(() => Lit(monitor, picture) > 5000, Surroundings.Patience),
            "20 lines are not on the screen");
        guest.Send("poweroff -f\n");
        Assert.Equal(0, guest.WaitExit());
    }

    /// <summary>Pixels that are not black.</summary>
    static int Lit(MonitorClient monitor, string file)
    {
        Assert.Equal("", monitor.Run($"screendump {file}"));
        byte[] picture = File.ReadAllBytes(file);
        byte[] header = Encoding.ASCII.GetBytes("P6\n1024 768\n255\n");
        Assert.Equal(header, picture[..header.Length]);
        return picture[header.Length..].Chunk(3).Count(pixel => pixel.Any(part => part > 0x60));
    }
}
