using System.Text.RegularExpressions;

namespace Qkvm.Guest.Tests;

/// <summary>Guests without an operating system, through SeaBIOS; they end the program by isa-debug-exit with
/// 33.</summary>
public sealed class BareMetalTests
{
    const int DebugExit = 33;

    [GuestFact]
    public void A_boot_sector_runs_from_an_IDE_disk() =>
        BootSector("-accel", "tcg", "-drive", $"file={Surroundings.BootSector},format=raw,snapshot=on");

    [GuestFact]
    public void A_boot_sector_runs_on_a_PC_without_PCI() =>
        BootSector("-machine", "isapc", "-drive", $"file={Surroundings.BootSector},format=raw,snapshot=on");

    [GuestFact]
    public void A_boot_sector_runs_from_a_virtio_disk()
    {
        using var files = new ScratchDirectory();
        BootSector("-accel", "tcg", "-drive", $"file={files.MakeBootDisk()},format=raw,if=virtio");
    }

    /// <param name="devices">With blanks between them; the last has the disk.</param>
    [GuestTheory]
    [InlineData("virtio-scsi-pci scsi-hd")] [InlineData("nvme,serial=1")] [InlineData("ahci,id=a ide-hd,bus=a.0")]
    [InlineData("qemu-xhci usb-storage")] [InlineData("usb-ehci usb-storage")]
    [InlineData("piix3-usb-uhci usb-storage")]
    public void A_boot_sector_runs_from_each_controller_s_disk(string devices)
    {
        using var files = new ScratchDirectory();
        BootSector(["-accel", "tcg", "-drive", $"file={files.MakeBootDisk()},format=raw,if=none,id=d",
            .. $"{devices},drive=d".Split(' ').SelectMany(device => new[] { "-device", device })]);
    }

    [GuestFact]
    public void Output_to_a_file_is_appended_where_the_shell_said_so()
    {
        using var files = new ScratchDirectory();
        string log = files.Write("log", "before\n"u8.ToArray());
        using GuestProcess shell = GuestProcess.StartOther("sh", "-c",
            $"{Surroundings.Program} -drive file={Surroundings.BootSector},format=raw,snapshot=on -display none " +
                "-serial stdio "
            + $"-monitor none -device isa-debug-exit,iobase=0x501 >>{log}; echo after >>{log}");
        Assert.Equal(0, shell.WaitExit());
        Assert.Equal("before\nboot sector ok\r\nafter\n", File.ReadAllText(log));
    }

    [KvmFact]
    public void A_boot_sector_runs_under_KVM() =>
        BootSector("-enable-kvm", "-drive", $"file={Surroundings.BootSector},format=raw,snapshot=on");

    [GuestFact]
    public void A_multiboot_ELF_kernel_gets_its_memory_map_and_command_line() => Multiboot(Surroundings.MultibootElf);

    [GuestFact]
    public void A_flat_multiboot_kernel_is_loaded_where_its_header_says() => Multiboot(Surroundings.MultibootFlat);

    [GuestFact]
    public void A_multiboot_kernel_in_low_memory_arrives_whole_and_starts_in_text_mode()
    {
        using GuestProcess guest = Start("-m", "128M", "-kernel", Surroundings.Guest("multiboot-low.bin"), "-append",
            "one two");
        guest.Expect("multiboot ok flags=00001247");               // and of the screen: text
        Assert.Equal(DebugExit, guest.WaitExit());
        Assert.Contains("the kernel asks for a video mode", guest.Errors);
    }

    [GuestFact]
    public void A_zImage_of_protocol_2_00_gets_its_command_line()
    {
        using GuestProcess guest = Start("-m", "64M", "-kernel", Surroundings.Guest("zimage.bin"), "-append",
            "one two");
        guest.Expect("zimage ok one two");
        Assert.Equal(DebugExit, guest.WaitExit());
    }

    static void BootSector(params string[] options)
    {
        using GuestProcess guest = Start(options);
        guest.Expect("boot sector ok");
        Assert.Equal(DebugExit, guest.WaitExit());
    }

    static void Multiboot(string kernel)
    {
        using GuestProcess guest = Start("-m", "128M", "-kernel", kernel, "-append", "one two");
        Match info =
            Regex.Match(guest.Expect("multiboot"),
            @"^multiboot ok flags=(\w+) lower=(\w+) upper=(\w+) map=(\w+) mods=00000000 cmdline=.*one two$");
        Assert.True(info.Success, guest.Output);
        const int MemoryAndMap = 1 | 1 << 2 | 1 << 6;              // mem_lower and mem_upper, cmdline, mmap
        Assert.Equal(MemoryAndMap, Convert.ToInt32(info.Groups[1].Value, 16) & MemoryAndMap);
        Assert.InRange(Convert.ToInt32(info.Groups[2].Value, 16), 512, 640);
        Assert.InRange(Convert.ToInt32(info.Groups[3].Value, 16), 126 * 1024, 127 * 1024);
        Assert.Equal(DebugExit, guest.WaitExit());
    }

    static GuestProcess Start(params string[] options) =>
        GuestProcess.Start([.. options, "-display", "none", "-serial", "stdio",
        "-monitor", "none", "-device", "isa-debug-exit,iobase=0x501"]);
}
