using System.Text;

namespace Qkvm.Guest.Tests;

/// <summary>Linux has memory that outlasts the machine as a disk, and what it writes is in the host's file.</summary>
public sealed class NvdimmTests
{
    const int Sector = 512, Labels = 128 << 10;
    const long Size = 64L << 20;

    [CardsTheory]
    [InlineData("pc")]
    [InlineData("q35")]
    public void What_is_written_is_in_the_file_and_there_again_at_the_next_start(string machine)
    {
        using var directory = new ScratchDirectory();
        string file = directory["nvdimm"];
        using (GuestProcess guest = Start(machine, file))
        {
            Assert.Equal($"{Size - Labels} ARMED", State(guest));
            guest.Send("echo LABELS $(cat /sys/bus/nd/devices/nmem0/available_slots)\n");
            Assert.Equal("509", guest.Value("LABELS", @"\d+"));    // as QEMU's guest finds it
            guest.Send($"echo kept | dd of=/dev/pmem0 bs={Sector} seek=7 conv=sync,fsync 2>/dev/null; poweroff -f\n");
            Assert.Equal(0, guest.WaitExit());
        }
        byte[] contents = File.ReadAllBytes(file);
        Assert.Equal("kept\n", Encoding.ASCII.GetString(contents, 7 * Sector, 5));
        using (GuestProcess guest = Start(machine, file, ",unarmed=on"))
        {
            Assert.Equal($"{Size - Labels} not_armed", State(guest));
            guest.Send($"echo FOUND $(dd if=/dev/pmem0 bs={Sector} skip=7 count=1 2>/dev/null | head -n 1); "
                + "echo x 2>/dev/null >/dev/pmem0 || echo REFUSED $((1 + 1)); poweroff -f\n");
            Assert.Equal("kept", guest.Value("FOUND", @"\w+"));
            Assert.Equal("2", guest.Value("REFUSED", @"\d"));
            Assert.Equal(0, guest.WaitExit());
        }
        Assert.Equal(contents, File.ReadAllBytes(file));
    }

    static GuestProcess Start(string machine, string file, string options = "")
    {
        GuestProcess guest = GuestProcess.Start("-accel", "tcg", "-machine", $"{machine},nvdimm=on", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", Surroundings.CardsKernel,
            "-initrd", Surroundings.CardsSmallInitrd, "-append", "console=ttyS0 quiet panic=-1",
            "-m", "256M,slots=1,maxmem=1G",
            "-object", $"memory-backend-file,id=memory,share=on,mem-path={file},size={Size}",
            "-device", $"nvdimm,memdev=memory,label-size={Labels}{options}");
        guest.Expect("TINY READY");
        return guest;
    }

    /// <summary>The disk's size, once it is there, and the module's flags.</summary>
    static string State(GuestProcess guest)
    {
        guest.Send("stty -echo; PS1=; modprobe -a nfit nd_pmem; while [ ! -b /dev/pmem0 ]; do sleep 0.1; done; "
            + "flags=$(cat /sys/bus/nd/devices/nmem0/nfit/flags); "
            + "echo PMEM $(($(cat /sys/block/pmem0/size) * 512)) ${flags:-ARMED}\n");
        return guest.Value("PMEM", @"\d+ \w+");
    }
}
