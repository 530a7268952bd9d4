using System.Security.Cryptography;

namespace Qkvm.Guest.Tests;

/// <summary>The firmware and Linux's driver on our diskette controller.</summary>
public sealed class FloppyTests
{
    const int Length = 1440 << 10;

    [GuestTheory, InlineData("pc"), InlineData("q35"), InlineData("isapc")]
    public void SeaBIOS_starts_from_a_diskette(string machine)
    {
        using var directory = new ScratchDirectory();
        byte[] image = new byte[Length];
        File.ReadAllBytes(Surroundings.BootSector).CopyTo(image, 0);
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-M", machine, "-display", "none", "-serial",
            "stdio", "-monitor", "none", "-boot", "a", "-drive",
            $"if=floppy,format=raw,file={directory.Write("floppy", image)}", "-device",
            "isa-debug-exit,iobase=0x501");
        guest.Expect("boot sector ok");
        Assert.Equal(33, guest.WaitExit());
    }

    [CardsTheory, InlineData("pc")]
    public void Linux_reads_and_writes_a_diskette(string machine)
    {
        using var directory = new ScratchDirectory();
        byte[] image = RandomNumberGenerator.GetBytes(Length);
        string floppy = directory.Write("floppy", image);
        using GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-M", machine, "-m", "256M", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel,
            "-initrd", Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1",
            "-drive", $"if=floppy,format=raw,file={floppy}");
        guest.Expect("TINY READY");
        guest.Send("modprobe floppy; echo READ $(md5sum </dev/fd0)\n");
        Assert.Equal(Convert.ToHexStringLower(MD5.HashData(image)), guest.Value("READ", "[0-9a-f]{32}"));
        guest.Send("dd if=/dev/fd0 of=/dev/fd0 bs=18k skip=3 seek=70 count=5 conv=fsync && echo WRITTEN $((1 + 1)); "
            + "poweroff -f\n");
        Assert.Equal("2", guest.Value("WRITTEN", @"\d"));
        Assert.Equal(0, guest.WaitExit());
        const int block = 18 << 10;
        image.AsSpan(3 * block, 5 * block).CopyTo(image.AsSpan(70 * block));
        Assert.Equal(image, File.ReadAllBytes(floppy));
    }
}
