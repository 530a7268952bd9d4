using System.Text;
using System.Text.Json;
using Qkvm.Cli;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>What each short form stands for.</summary>
public class ExpansionTests
{
    [Theory]
    [InlineData("tutorial", "centos70-64.qcow2 -enable-kvm -smp 2 -m 2G -device virtio-net-pci,netdev=vnet0 -netdev " +
        "tap,id=vnet0 -monitor telnet::3333,server,nowait -serial stdio")]
    [InlineData("bare_disk", "debian.qcow2")]
    [InlineData("two_dashes", "--hda debian.qcow2 --m 1G")]
    [InlineData("four_disks", "-hda a -hdb b -hdc c -hdd d")]
    [InlineData("cdrom", "-cdrom debian.iso -boot d")]
    [InlineData("drive_virtio", "-drive file=a.qcow2,if=virtio,format=qcow2,cache=none")]
    [InlineData("drive_virtio_twice", "-drive file=a,if=virtio -drive file=b,if=virtio,serial=S1")]
    [InlineData("drive_none_device", "-drive file=a.img,if=none,id=d0,format=raw -device " +
        "virtio-blk-pci,drive=d0,bootindex=1")]
    [InlineData("drive_index", "-drive file=a,index=1 -drive file=b,bus=1,unit=1,media=cdrom")]
    [InlineData("drive_comma", "-drive file=a,,b.img,readonly=on")]
    [InlineData("flash", "-M q35 -drive if=pflash,format=raw,file=vars.fd,unit=1 -snapshot -pflash code.fd")]
    [InlineData("flash_nodes", "-blockdev file,node-name=f,filename=code.fd -M pflash0=f -drive "
        + "if=pflash,id=v,file=vars.fd")]
    [InlineData("snapshot", "-snapshot a.qcow2 -cdrom c.iso")]
    [InlineData("blockdev", "-nodefaults -blockdev file,node-name=f,filename=a.qcow2 -blockdev " +
        "qcow2,node-name=q,file=f -device ide-hd,drive=q,bus=ide.0")]
    [InlineData("blockdev_nested", "-nodefaults -blockdev " +
        "driver=qcow2,node-name=q,file.driver=file,file.filename=a.qcow2,cache.direct=on")]
    [InlineData("nographic", "-nographic a.img")]
    [InlineData("nographic_monitor", "-nographic -monitor none a.img")]
    [InlineData("serial_stdio", "-serial stdio a.img")]
    [InlineData("serial_mon", "-serial mon:stdio -display none a.img")]
    [InlineData("serial_many", "-serial null -serial pty -serial none -serial file:log.txt")]
    [InlineData("serial_unix", "-serial unix:/tmp/s,server,nowait -serial unix:/tmp/t")]
    [InlineData("serial_tcp", "-serial tcp:localhost:4444,server=on,wait=off,nodelay -serial telnet:[::1]:5,server")]
    [InlineData("gdb_short", "-nodefaults -s -S")]
    [InlineData("gdb_tcp", "-nodefaults -gdb tcp:localhost:9000,server,nowait")]
    [InlineData("serial_kinds", "-serial udp::4555@:4556 -serial udp:[::1]:9,ipv6 -serial pipe:/tmp/p -serial " +
        "vc:800x600 "
        + "-serial vc:80Cx24C -serial websocket:localhost:5,server,nowait -serial /dev/ttyS0 -parallel /dev/parport0")]
    [InlineData("gdb_unix", "-nodefaults -s -gdb unix:/tmp/g,server=on,wait=off")]
    [InlineData("gdb_chardev", "-nodefaults -chardev pty,id=p -gdb chardev:p")]
    [InlineData("gdb_none", "-nodefaults -gdb stdio -gdb none")]
    [InlineData("serial_chardev", "-chardev socket,id=c0,path=/tmp/x,server=on,wait=off -serial chardev:c0")]
    [InlineData("serial_device", "-chardev pty,id=p -device isa-serial,chardev=p")]
    [InlineData("mon_mux", "-chardev stdio,id=c,mux=on,signal=off -mon chardev=c,mode=readline -serial chardev:c")]
    [InlineData("debugcon", "-debugcon file:debug.log -global isa-debugcon.iobase=0x402")]
    [InlineData("nic_tap", "-nic tap,ifname=tap0,script=no,downscript=no,mac=52:54:00:00:00:01")]
    [InlineData("nic_none", "-nic none")]
    [InlineData("net_old", "-net nic,model=virtio,macaddr=52:54:00:00:00:02 -net tap,ifname=t1")]
    [InlineData("netdev_two", "-netdev tap,id=a -device virtio-net-pci,netdev=a -netdev tap,id=b,script=no -device " +
        "virtio-net-pci,netdev=b,mac=52:54:00:1:2:3")]
    [InlineData("display_none", "-display none")]
    [InlineData("vnc", "-vnc :1")]
    [InlineData("display_vnc", "-display vnc=127.0.0.1:2,password=off")]
    [InlineData("vga_none", "-vga none -vnc none")]
    [InlineData("kernel", "-kernel vmlinuz -initrd initrd.gz -append console=ttyS0 -nographic")]
    [InlineData("nodefaults", "-nodefaults")]
    [InlineData("accel_list", "-machine pc,accel=kvm:tcg -cpu host,-avx2,+aes,pmu=off,vendor=X")]
    [InlineData("accel_twice", "-accel kvm -accel tcg,thread=multi")]
    [InlineData("smp", "-smp 4,sockets=1,cores=2,threads=2")]
    [InlineData("smp_max", "-smp cpus=2,maxcpus=8,sockets=2")]
    [InlineData("memory", "-m size=1.5G,slots=4,maxmem=8G")]
    [InlineData("identity", "-name guest=web,debug-threads=on -uuid 12345678-1234-1234-1234-123456789abc -rtc " +
        "base=2026-01-31T12:30:00,clock=vm -smbios type=1,manufacturer=ACME -fw_cfg name=opt/x,string=y -S -no-reboot")]
    [InlineData("boot", "-boot order=dc,once=n,menu=on,splash-time=100,reboot-timeout=5,strict=on")]
    [InlineData("cloud_init", "-cloud-init user-data=u,hostname=h -drive file=a,if=virtio")]
    [InlineData("cloud_init_microvm", "-M microvm -cloud-init user-data=u")]
    public Task Short_forms_expand(string name, string line) => Verifier.Verify(Print(Expand(line.Split(' '))), name);

    public static TheoryData<string> LibvirtLines =>
        [.. Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "libvirt"), "argv-*.json")
        .Select(f => Path.GetFileNameWithoutExtension(f)).Order()];

    [Theory, MemberData(nameof(LibvirtLines))]
    public Task What_libvirt_passes_expands(string name)
    {
        using JsonDocument document =
            JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "libvirt", name + ".json")));
        string[] line =
            [.. document.RootElement.GetProperty("argv").EnumerateArray().Skip(1).Select(a => a.GetString()!)];
        return Verifier.Verify(Print(Expand(line)), name);
    }

    [Theory]
    [InlineData("-devcie help", "-devcie: invalid option; did you mean '-device'?")]
    [InlineData("-m 2Q", "-m 2Q: size=2Q is not a size; write for example 512M or 2G")]
    [InlineData("-m", "-m: requires an argument: -m [size=]megs[,slots=n,maxmem=size]")]
    [InlineData("-smp 4,cores=3,sockets=1,threads=1", "-smp 4,cores=3,sockets=1,threads=1: Invalid CPU " +
        "topology: product of the hierarchy must match maxcpus: sockets (1) * dies (1) * cores (3) * threads (1) != "
        + "maxcpus (4)")]
    [InlineData("-smp -1", "-smp -1: cpus=-1: expects a number from 0 to 4096")]
    [InlineData("-cloud-init user-dat=u", "-cloud-init user-dat=u: invalid parameter 'user-dat'; did you mean "
        + "'user-data'?")]
    [InlineData("-cloud-init hostname=a -cloud-init hostname=b", "-cloud-init hostname=b: -cloud-init hostname=a is "
        + "there already")]
    [InlineData("-hda a -drive file=b,index=0", "-drive file=b,index=0: index=0 (bus=0, unit=0) is taken by -hda a")]
    [InlineData("-pflash a -drive if=pflash,unit=0,file=b", "-drive if=pflash,unit=0,file=b: flash unit=0 is taken by "
        + "-machine pflash0= or another drive")]
    [InlineData("-M pflash0=n -drive if=pflash,unit=0,file=b", "-drive if=pflash,unit=0,file=b: flash unit=0 is taken "
        + "by -machine pflash0= or another drive")]
    [InlineData("-drive if=pflash,unit=2,file=b", "-drive if=pflash,unit=2,file=b: the machine has 2 flash chips: "
        + "unit=0 with the firmware, unit=1 with its variables")]
    [InlineData("-drive file=a,fromat=raw", "-drive file=a,fromat=raw: invalid parameter 'fromat'; did you mean " +
        "'format'?")]
    [InlineData("-drive file=a,if=virtoi", "-drive file=a,if=virtoi: unsupported bus type 'virtoi'; did you mean " +
        "'virtio'?")]
    [InlineData("-serial stdoi", "-serial stdoi: 'stdoi' is no character device; did you mean 'stdio'?")]
    [InlineData("-netdev tpa,id=x", "-netdev tpa,id=x: 'tpa' is not a network backend; did you mean 'tap'?")]
    [InlineData("-netdev tap", "-netdev tap: needs id=")]
    [InlineData("-append x", "-append: only allowed with -kernel")]
    [InlineData("-accel kmv", "-accel kmv: 'kmv' is not an accelerator; did you mean 'kvm'?")]
    [InlineData("-boot x", "-boot x: 'x' is no boot device: use a (floppy), c (disk), d (CD-ROM), n (network)")]
    [InlineData("-uuid 1", "-uuid 1: not a UUID; write 12345678-1234-1234-1234-123456789abc")]
    [InlineData("-device virtio-rng-pci,id=1x", "-device virtio-rng-pci,id=1x: id '1x': identifiers consist of " +
        "letters, digits, '-', '.', '_', starting with a letter")]
    public void Mistakes_name_the_option_and_the_remedy(string line, string message) =>
        Assert.Equal(message, Assert.Throws<ConfigurationException>(() => Expand(line.Split(' '))).Message);

    [Fact]
    public void An_argument_may_look_like_an_option()
    {
        MachineConfig config = Expand(["-kernel", "k", "-append", "-m 2G", "-name", "--version"]);
        Assert.Equal("-m 2G", config.Kernel!.Append);
        Assert.Equal("--version", config.Name);
    }

    static MachineConfig Expand(string[] line) => Expander.Expand(CommandLineParser.Parse(line));

    static string Print(MachineConfig c)
    {
        var text = new StringBuilder();
        void Line(string what, string value) => text.Append(what).Append(": ").Append(value).Append('\n');
        static string Pairs(IEnumerable<OptionPair> pairs) =>
            string.Join(' ', pairs.Select(p => $"{p.Name}={p.Value}"));
        Line("machine", $"{c.MachineType} {Pairs(c.MachineOptions.Rest)}".Trim());
        foreach (AcceleratorConfig a in c.Accelerators) Line("accel", $"{a.Name} {Pairs(a.Options.Rest)}".Trim());
        Line("memory", $"{c.Memory.Size >> 20} MiB, max {c.Memory.MaxSize >> 20}, slots {c.Memory.Slots}");
        string features = string.Join(' ', c.Cpu.Features.Select(f => (f.Value ? "+" : "-") + f.Key));
        Line("cpu", $"{c.Cpu.Model} {features} {Pairs(c.Cpu.Properties)}".Trim());
        Line("smp", c.Topology.ToString());
        if (c.Kernel is { } kernel) Line("kernel", kernel.ToString());
        if (c.Boot != new BootConfig()) Line("boot", c.Boot.ToString());
        if (c.Rtc != new RtcConfig()) Line("rtc", $"{c.Rtc.Base} {c.Rtc.Date:s} {c.Rtc.Clock}");
        if (c.Name.Length > 0) Line("name", c.Name);
        if (c.Uuid != default) Line("uuid", c.Uuid.ToString());
        string flags =
            string.Join(' ',
            new[] { (c.Actions.Reboot == RebootAction.Shutdown, "no-reboot"),
                (c.Actions.Shutdown == ShutdownAction.Pause, "no-shutdown"), (c.StartPaused, "paused"),
            (!c.Hpet, "no-hpet"), (!c.Acpi, "no-acpi"), (c.NoGraphic, "nographic"), (c.Daemonize, "daemonize") }
            .Where(f => f.Item1).Select(f => f.Item2));
        if (flags.Length > 0) Line("flags", flags);
        foreach (ObjectConfig o in c.Objects) Line("object", $"{o.Type} {o.Id} {Pairs(o.Options.Rest)}".Trim());
        foreach (BlockdevConfig b in c.Blockdevs) Line("blockdev",
            $"{b.NodeName} {b.Driver} {Pairs(b.Options.Rest)}".Trim());
        foreach (DriveConfig d in c.Drives)
        {
            string traits = $"{(d.ReadOnly ? " read-only" : "")}{(d.Snapshot ? " snapshot" : "")}" +
                $"{(d.IsCdrom ? " cdrom" : "")}";
            Line("drive", $"{d.Id} file={d.File} format={d.Format}{traits} {Pairs(d.Options.Rest)}".Trim());
        }
        foreach (NetdevConfig n in c.Netdevs) Line("netdev", $"{n.Id} {n.Type} {Pairs(n.Options.Rest)}".Trim());
        foreach (ChardevConfig ch in c.Chardevs) Line("chardev",
            $"{ch.Id} {ch.Backend}{(ch.Mux ? " mux" : "")} {Pairs(ch.Options.Rest)}".Trim());
        foreach (DeviceConfig d in c.Devices) Line("device",
            $"{d.Driver} {(d.Id == null ? "" : $"id={d.Id} ")}{Pairs(d.Properties.Rest)}".Trim());
        for (int i = 0; i < c.Serials.Count; i++) Line($"serial {i}", c.Serials[i] ?? "none");
        for (int i = 0; i < c.Parallels.Count; i++) Line($"parallel {i}", c.Parallels[i] ?? "none");
        if (c.DebugCon is { } debugCon) Line("debugcon", debugCon);
        if (c.GdbChardev != null) Line("gdb", c.GdbChardev);
        foreach (MonitorConfig m in c.Monitors) Line("monitor", $"{m.Chardev}{(m.Control ? " control" : "")}");
        foreach (DisplayConfig d in c.Displays) Line("display", $"{d.Kind} {d.Address} {Pairs(d.Options.Rest)}".Trim());
        foreach (GlobalConfig g in c.Globals) Line("global", $"{g.Driver}.{g.Property}={g.Value}");
        foreach (SmbiosConfig s in c.Smbios) Line("smbios", $"type {s.Type} {Pairs(s.Fields)}");
        foreach (FwCfgConfig f in c.FwCfg) Line("fw_cfg", $"{f.Name} {f.File}{f.Text}");
        return text.ToString();
    }
}
