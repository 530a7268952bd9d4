using System.Text;
using Qkvm.Cli;
using Qkvm.Core.Machine;
using Qkvm.Testing;

namespace Qkvm.Tests;

/// <summary>What people type, as the documentation of many projects has it: taken, or refused with the one thing that
/// is missing.
/// A line that begins to work changes its line of the snapshot.</summary>
public class CommandLineTests
{
    static string Lines => Path.Combine(AppContext.BaseDirectory, "command-lines.txt");

    [Fact]
    public void A_disk_may_be_called_as_the_program_is()
    {
        string name = Path.GetFileNameWithoutExtension(Environment.GetCommandLineArgs()[0]);
        Assert.Equal([new GivenOption("", name)], CommandLineParser.Parse([name]));
    }

    [Fact]
    public Task Public_command_lines_are_taken_or_refused_with_one_reason()
    {
        var text = new StringBuilder();
        int taken = 0, all = 0;
        foreach (string line in File.ReadLines(Lines))
        {
            if (line.Length == 0 || line.StartsWith('#')) continue;
            int colon = line.IndexOf(": ", StringComparison.Ordinal);
            string verdict = Judge(line[(colon + 2)..]);
            text.Append($"{line[..colon]}: {verdict}\n");
            all++;
            if (verdict.StartsWith("taken", StringComparison.Ordinal)) taken++;
        }
        return Verifier.Verify($"{taken} of {all} taken\n\n{text}");
    }

    [Theory]
    [InlineData("-net nic -net tap", "taken")]
    [InlineData("-netdev tap,id=n -net nic,netdev=n,model=virtio", "taken")]
    [InlineData("-net nic -net nic,model=virtio -net user -net socket,listen=:1234", "taken")]
    [InlineData("-netdev user,id=u -netdev hubport,id=p,hubid=0,netdev=u -object filter-dump,id=f,netdev=u,file=x",
        "taken")]
    [InlineData("-netdev stream,id=s,server=off,addr.type=unix,addr.path=/tmp/s,reconnect=1 -net nic,netdev=s",
        "taken")]
    [InlineData("-netdev dgram,id=d,remote.type=inet,remote.host=230.0.0.1,remote.port=1234 -net nic,netdev=d",
        "taken")]
    [InlineData("-object filter-mirror,id=f,netdev=u", "-object filter-mirror,id=f,netdev=u: 'filter-mirror' is not "
        + "built yet; of the filters there is filter-dump")]
    [InlineData("-net nic,model=virtio", "taken; -net nic,model=virtio: has no backend: nothing is at the other " +
        "end; add one, for example -net tap")]
    [InlineData("-drive if=floppy,werror=stop", "-drive if=floppy,werror=stop: werror is not supported by this bus "
        + "type; if=ide, if=virtio and if=none take it")]
    [InlineData("-vnc vnc=unix:/tmp/x", "taken")]
    [InlineData("-object rng-random,id=r -device virtio-rng-pci,rng=r", "taken")]
    [InlineData("-monitor /dev/null -serial /dev/ttyS0", "taken")]
    [InlineData("-M pc,kernel_irqchip=on", "taken")]
    [InlineData("-M pc,usb=on", "taken")]
    [InlineData("-M xenpv", "-M xenpv: 'xenpv' is not built yet; use pc")]
    [InlineData("-M microvm,pit=off,rtc=on -netdev user,id=n -device virtio-net-device,netdev=n", "taken")]
    [InlineData("-M microvm -nic user", "taken; -nic user: requested NIC was not created (not supported by this " +
        "machine); give -netdev and -device")]
    [InlineData("-M microvm -drive file=x,format=raw", "-drive file=x,format=raw: the machine has no IDE; give " +
        "-drive if=none,id=X,… and a -device such as virtio-blk-device,drive=X")]
    [InlineData("-M microvm,usb=on", "-M microvm,usb=on: usb=on is not built yet; leave it out")]
    [InlineData("-M microvm -global virtio-mmio.force-legacy=off", "taken")]
    [InlineData("-M isapc -hda x -vga std", "taken")]
    [InlineData("-M isapc -smp 2", "-smp 2: Invalid SMP CPUs 2. The max CPUs supported by machine 'isapc' is 1")]
    [InlineData("-machine smm=on", "taken")]
    [InlineData("-machine acpi=off,hpet=off,vmport=off,smm=off,mem-merge=off,dump-guest-core=off,graphics=on", "taken")]
    [InlineData("-m 1G,slots=2,maxmem=4G", "taken")]
    [InlineData("-m 1G,slots=2,maxmem=4G -object memory-backend-ram,id=m,size=1G -device pc-dimm,memdev=m", "taken")]
    [InlineData("-m 1G,slots=2", "-m 1G,slots=2: slots specified but no max-size; give maxmem=, all that there may be")]
    [InlineData("-m 128M,slots=2,maxmem=64M", "-m 128M,slots=2,maxmem=64M: invalid value of maxmem: maximum memory "
        + "size (0x4000000) must be at least the initial memory size (0x8000000)")]
    [InlineData("-m 128M,slots=1,maxmem=128M", "-m 128M,slots=1,maxmem=128M: invalid value of maxmem: memory slots "
        + "were specified but maximum memory size (0x8000000) is equal to the initial memory size (0x8000000)")]
    [InlineData("-m 128M,slots=300,maxmem=1G", "-m 128M,slots=300,maxmem=1G: unsupported amount of memory slots: 300; "
        + "256 are possible")]
    [InlineData("-smp 1,maxcpus=2 -device qemu64-x86_64-cpu,socket-id=0,core-id=1,thread-id=0", "taken")]
    [InlineData("-machine nvdimm=on,nvdimm-persistence=cpu -m 1G,slots=2,maxmem=4G -object memory-backend-file,id=m," +
        "mem-path=x,size=1G,share=on -device nvdimm,memdev=m,label-size=128K,unarmed=off", "taken")]
    [InlineData("-audiodev nosuch,id=a", "-audiodev nosuch,id=a: 'nosuch' is not an audio driver")]
    [InlineData("-audiodev none,id=a", "taken")]
    [InlineData("-vnc :9,audiodev=a -audiodev none,id=a", "taken")]
    [InlineData("-vnc :9,audiodev=a", "-vnc :9,audiodev=a: audiodev 'a' not found; leave it out, or give -audiodev " +
        "none,id=a")]
    [InlineData("-audiodev wav,id=a,path=/tmp/a.wav,out.frequency=48000,out.channels=1,out.format=u8", "taken")]
    [InlineData("-audiodev wav,id=a,out.format=s24", "-audiodev wav,id=a,out.format=s24: out.format=s24: one of u8, " +
        "s8, u16, s16, u32, s32, f32 is expected")]
    [InlineData("-audiodev wav,id=a,out.frequenzy=1", "-audiodev wav,id=a,out.frequenzy=1: Property " +
        "'wav.out.frequenzy' not found; did you mean 'out.frequency'?")]
    [InlineData("-audiodev none,id=a,out.fixed-settings=off", "-audiodev none,id=a,out.fixed-settings=off: " +
        "out.fixed-settings=off is not built yet; leave it out: what cards play is converted")]
    [InlineData("-audiodev pa,id=a", "-audiodev pa,id=a: 'pa' is not built yet; use wav, which writes a file, or " +
        "none")]
    [InlineData("-audiodev none,id=a -audiodev wav,id=a", "-audiodev wav,id=a: there is an audiodev 'a' already")]
    [InlineData("-audiodev none", "-audiodev none: needs id=")]
    [InlineData("-soundhw ac97", "-soundhw ac97: the option -soundhw was removed in QEMU 7.1; write -audio " +
        "driver=wav,path=FILE,model=ac97, or -audiodev and -device")]
    [InlineData("-vnc :9,non-adaptive=on,lossy=on,key-delay-ms=0", "taken")]
    [InlineData("-name a,colour=red", "-name a,colour=red: invalid parameter 'colour'")]
    [InlineData("-overcommit mem-lock=off,cpu-pm=off", "taken")]
    [InlineData("-overcommit cpu-pm=on", "taken")]
    [InlineData("-msg timestamp=on,guest-name=off", "taken")]
    [InlineData("-global driver=isa-debugcon,property=iobase,value=0x402", "taken")]
    [InlineData("-chardev null,id=c -device isa-debugcon,chardev=c -global isa-debugcon.iobas=0x402",
        "-global isa-debugcon.iobas=0x402: Property 'isa-debugcon.iobas' not found; did you mean 'iobase'?")]
    [InlineData("-device virtio-blk-pci,drive=d,logical_block_size=4k", "taken")]
    [InlineData("-device pvscsi", "-device pvscsi: 'pvscsi' is not built yet; use virtio-blk-pci")]
    [InlineData("-device virtio-serial-pci -device virtconsole", "taken")]
    [InlineData("-device sga", "-device sga: 'sga' is not built yet; use VGA, or virtio-vga")]
    [InlineData("-drive file=x,format=raw,werror=stop,rerror=ignore", "taken")]
    [InlineData("-drive file=x,rerror=enospc", "-drive file=x,rerror=enospc: rerror=enospc: expects report, ignore or "
        + "stop")]
    [InlineData("-device ide-cd,write-cache=on,share-rw=on,werror=stop,rerror=stop", "taken")]
    [InlineData("-device virtio-blk-pci,drive=d,rerror=enospc", "-device virtio-blk-pci: rerror=enospc: one of auto, "
        + "report, ignore, stop is expected")]
    [InlineData("-drive file=x,format=raw,throttling.bps-total=5,bps_rd=4", "-drive file=x,format=raw,throttling.bps-" +
        "total=5,bps_rd=4: bps/iops/max total values and read/write values cannot be used at the same time")]
    [InlineData("-drive file=x,format=raw,bps=7,throttling.bps-total=4", "-drive file=x,format=raw,bps=7,throttling." +
        "bps-total=4: 'throttling.bps-total' and its alias 'bps' can't be used at the same time")]
    [InlineData("-drive file=x,format=raw,iops=1k", "-drive file=x,format=raw,iops=1k: throttling.iops-total=1k: " +
        "expects a number")]
    [InlineData("-drive file=x,format=raw,iops=100,iops_max=200,throttling.iops-total-max-length=3,group=g", "taken")]
    [InlineData("-drive file=x,aio=native,cache=none,format=raw", "taken")]
    [InlineData("-net user,smb=/srv", "-net user,smb=/srv: smb=/srv is not built yet; let smbd of the host listen on " +
        "127.0.0.1: guests reach it at 10.0.2.2")]
    [InlineData("-accel hvf", "-accel hvf: 'hvf' does not exist on this host")]
    [InlineData("-accel hvf -accel tcg,tb-size=64", "taken")]
    [InlineData("-accel tcg,tb-size=1", "-accel tcg,tb-size=1: tb-size=1 is not in 16 to 4096")]
    [InlineData("-accel kvm,colour=red", "-accel kvm,colour=red: Property 'kvm.colour' not found")]
    [InlineData("-m 64 -mem-path /tmp", "taken")]
    [InlineData("-object memory-backend-ram,id=r,size=64M -M pc,memory-backend=r -mem-path x", "-mem-path x: cannot be "
        + "used together with -machine memory-backend=r; leave one of them out")]
    [InlineData("-object memory-backend-file,id=r,size=64M,mem-path=x,prealloc-context=c", "-object "
        + "memory-backend-file,id=r,size=64M,mem-path=x,prealloc-context=c: prealloc-context=c is not "
        + "built yet; leave it out")]
    [InlineData("-usb -usbdevice tablet", "taken")]
    [InlineData("-usbdevice tablett", "-usbdevice tablett: could not add USB device 'tablett'; did you mean "
        + "'tablet'?")]
    [InlineData("-usbdevice disk:/tmp/x", "-usbdevice disk:/tmp/x: could not add USB device 'disk:/tmp/x'; use "
        + "-drive file=FILE,if=none,id=ID -device usb-storage,drive=ID")]
    [InlineData("-usbdevice mouse:x", "-usbdevice mouse:x: could not add USB device 'mouse:x'; it takes a name alone: "
        + "tablet, mouse, keyboard, braille, wacom-tablet")]
    [InlineData("-usbdevice wacom-tablet", "-usbdevice wacom-tablet: 'usb-wacom-tablet' is not built yet; use "
        + "usb-tablet, usb-mouse or usb-kbd")]
    [InlineData("-device u2f-emulated", "-device u2f-emulated: 'u2f-emulated' is not built yet; smart cards and "
        + "security keys stay with the host; forward the socket of an agent over virtserialport")]
    [InlineData("-k de", "-k de: the layout 'de' is not built yet; en-us is what there is")]
    [InlineData("-action panic=explode", "-action panic=explode: panic=explode: expects shutdown, pause, "
        + "exit-failure, none")]
    public void Options_work_or_are_refused_in_the_words_that_were_typed(string line, string verdict) =>
        Assert.Equal(verdict, Judge(line));

    [Fact]
    public void A_disk_of_ones_own_on_IDE_leaves_no_default_CD_ROM_in_its_way()
    {
        MachineConfig config = Expander.Expand(CommandLineParser.Parse(
            ["-drive", "file=x,if=none,id=d", "-device", "ide-hd,drive=d,bus=ide.1"]));
        Assert.DoesNotContain(config.Devices, d => d.Driver == "ide-cd");
    }

    [Fact]
    public void Memory_takes_its_size_from_its_object_where_m_is_silent()
    {
        MachineConfig config = Expander.Expand(CommandLineParser.Parse(
            ["-machine", "memory-backend=r", "-object",
                """{"qom-type":"memory-backend-ram","id":"r","size":536870912}"""]));
        Assert.Equal(512UL << 20, config.Memory.Size);
    }

    [Fact]
    public void A_path_of_memory_is_short_for_an_object_of_the_size_of_m()
    {
        MachineConfig config = Expander.Expand(CommandLineParser.Parse(["-mem-path", "/tmp", "-m", "64"]));
        ObjectConfig memory = Assert.Single(config.Objects);
        Assert.Equal(("memory-backend-file", "pc.ram"), (memory.Type, memory.Id));
        Assert.Equal((64L << 20, "/tmp"), (memory.Options.Size("size"), memory.Options.Text("mem-path")));
        Assert.Equal("pc.ram", config.MachineOptions.Text("memory-backend"));
    }

    [Fact]
    public void The_i386_name_has_its_own_default_CPU()
    {
        Assert.Equal("qemu32", Expander.Expand([], "qemu-system-i386").Cpu.Model);
        Assert.Equal("qemu64", Expander.Expand([], "qemu-system-x86_64").Cpu.Model);
    }

    static string Judge(string line)
    {
        var warnings = new List<string>();
        try
        {
            IReadOnlyList<GivenOption> options = CommandLineParser.Parse(Words(line));
            Refusal.Check(options);
            Preflight.Check(Expander.Expand(options, "qkvm", warnings.Add));
            return string.Join("; ", warnings.Prepend("taken"));
        }
        catch (ConfigurationException e) { return e.Message; }
    }

    /// <summary>As a shell splits it: blanks between, quotes around.</summary>
    static string[] Words(string line)
    {
        var words = new List<string>();
        var word = new StringBuilder();
        char quote = '\0';
        foreach (char c in line + " ")
        {
            if (quote != 0 ? c == quote : c is '"' or '\'') quote = quote != 0 ? '\0' : c;
            else if (c != ' ' || quote != 0) word.Append(c);
            else if (word.Length > 0)
            {
                words.Add(word.ToString());
                word.Clear();
            }
        }
        return [.. words];
    }
}
