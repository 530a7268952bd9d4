namespace Qkvm.Cli;

/// <summary>One option of the command line.</summary>
/// <param name="Argument">How the argument is described in -help; null for a flag.</param>
/// <param name="Help">Continuation lines are separated by \n.</param>
/// <param name="NotYet">Parsed but not built: why it is refused; null for those that work.</param>
public sealed record OptionSpec(string Name, string? Argument, string Help, string? NotYet = null);

/// <summary>Every option, in the order of -help. Parsing, -help and "did you mean" all read this list.</summary>
public static class OptionCatalogue
{
    const string Later = "is not built yet";

    public static readonly (string Section, OptionSpec[] Options)[] Sections =
    [
        ("Standard options",
        [
            new("h", null, "display this help and exit"),
            new("help", null, "display this help and exit"),
            new("version", null, "display version information and exit"),
            new("machine", "[type=]name[,prop[=value][,...]]", "selects the emulated machine ('-machine help' for a " +
                "list)\nproperty accel=accel1[:accel2[:...]] selects accelerators in the order to try (default: tcg)"),
            new("M", "name", "same as -machine"),
            new("cpu", "cpu", "select CPU ('-cpu help' for a list)"),
            new("accel", "[accel=]accelerator[,prop[=value][,...]]", "select accelerator (kvm or tcg; '-accel help' " +
                "for a list); given twice, the first usable one"),
            new("smp", "[[cpus=]n][,maxcpus=maxcpus][,sockets=sockets][,dies=dies][,cores=cores][,threads=threads]",
                "set the number of CPUs to 'n' [default=1] and their topology"),
            new("m", "[size=]megs[,slots=n,maxmem=size]", "configure guest RAM; suffixes M and G (default: 128M)"),
            new("name", "string1[,process=string2][,debug-threads=on|off]", "set the name of the guest"),
            new("uuid", "%08x-%04x-%04x-%04x-%012x", "specify machine UUID"),
            new("device", "driver[,prop[=value][,...]]", "add device ('-device help' for a list, '-device " +
                "driver,help' for its properties)"),
            new("global", "driver.property=value | driver=driver,property=property,value=value",
                "set a global default for a driver property"),
            new("boot",
                "[order=drives][,once=drives][,menu=on|off][,splash=file][,splash-time=ms]" +
                "[,reboot-timeout=ms][,strict=on|off]",
                "'drives': floppy (a), hard disk (c), CD-ROM (d), network (n)"),
            new("k", "language", "use keyboard layout; only en-us"),
            new("usb", null, "enable on-board USB host controller (if not used by default)"),
            new("usbdevice", "tablet|mouse|keyboard", "add a USB device (deprecated: use -device usb-tablet …)"),
            new("numa", "node[,memdev=id][,cpus=firstcpu[-lastcpu]][,nodeid=node][,initiator=node] | "
                + "cpu,node-id=node[,socket-id=x][,die-id=d][,core-id=y][,thread-id=z] | "
                + "dist,src=source,dst=destination,val=distance | "
                + "hmat-lb,initiator=node,target=node,hierarchy=memory|first-level|second-level|third-level,"
                + "data-type=access-latency|…[,latency=ns][,bandwidth=bytes] | "
                + "hmat-cache,node-id=node,size=size,level=n,associativity=none|direct|complex,"
                + "policy=none|write-back|write-through,line=bytes",
                "NUMA topology: nodes of memory and processors, how far they are, how fast memory is"),
            new("mem-path", "FILE", "provide backing storage for guest RAM"),
            new("mem-prealloc", null, "preallocate guest memory"),
            new("add-fd", "fd=fd,set=set[,opaque=opaque]", "add 'fd' to fd 'set', which /dev/fdset/set opens"),
            new("set", "group.id.arg=value", "set <arg> parameter for item <id> of type <group>"),
        ]),
        ("Block device options",
        [
            new("hda", "file", "use 'file' as hard disk 0 image"),
            new("hdb", "file", "use 'file' as hard disk 1 image"),
            new("hdc", "file", "use 'file' as hard disk 2 image"),
            new("hdd", "file", "use 'file' as hard disk 3 image"),
            new("cdrom", "file", "use 'file' as CD-ROM image"),
            new("fda", "file", "use 'file' as floppy disk 0 image"),
            new("fdb", "file", "use 'file' as floppy disk 1 image"),
            new("drive",
                "[file=file][,if=type][,bus=n][,unit=m][,media=d][,index=i][,format=f]" +
                "[,snapshot=on|off][,cache=c][,readonly=on|off][,id=name][,serial=s][,discard=d]",
                "use 'file' as a drive image"),
            new("blockdev",
                "[driver=]driver[,node-name=N][,discard=ignore|unmap][,cache.direct=on|off]" +
                "[,cache.no-flush=on|off][,read-only=on|off][,driver specific parameters...]",
                "configure a block backend"),
            new("snapshot", null, "write to temporary files instead of disk image files"),
            new("cloud-init", "[user-data=file][,meta-data=file][,vendor-data=file][,network-config=file]" +
                "[,ssh-key=file][,hostname=name][,password=password][,seed=iso|fat]",
                "tell a cloud image its name, keys and what to do, by a disk for cloud-init"),
            new("pflash", "file", "use 'file' as a parallel flash image"),
            new("sd", "file", "use 'file' as SecureDigital card image", Later),
            new("mtdblock", "file", "use 'file' as on-board Flash memory image", Later),
            new("fsdev", "local,id=id,path=path,security_model=mapped-xattr|mapped-file|passthrough|none" +
                "[,writeout=immediate][,readonly=on][,fmode=fmode][,dmode=dmode][,multidevs=remap|forbid|warn]",
                "a folder of the host for -device virtio-9p-pci,fsdev=id,mount_tag=tag"),
            new("virtfs", "local,path=path,mount_tag=tag,security_model=mapped-xattr|mapped-file|passthrough|none" +
                "[,id=id][,writeout=immediate][,readonly=on][,fmode=fmode][,dmode=dmode]" +
                "[,multidevs=remap|forbid|warn]",
                "share a folder of the host: -fsdev and -device virtio-9p-pci in one"),
            new("iscsi", "[user=user]", "iSCSI session parameters", Later),
        ]),
        ("Display options",
        [
            new("display", "none|vnc=<display>|curses|gtk|sdl[,<optargs>]", "select display backend type: the " +
                "screen's text on this terminal by curses; gtk and sdl say how to see it without windows"),
            new("nographic", null, "disable graphical output and redirect serial I/Os to console"),
            new("vga", "[std|none]", "select video card type"),
            new("vnc", "<display>", "show the screen through a VNC server on <display>: host:number, unix:path or " +
                "none"),
            new("spice", "[port=port]", "enable spice", Later),
            new("full-screen", null, "start in full screen: with -display gtk or sdl"),
            new("g", "WxH", "the resolution that the card's monitor prefers"),
            new("sdl", null, "removed from QEMU; use -display sdl"),
            new("curses", null, "removed from QEMU; use -display curses"),
            new("no-frame", null, "removed from QEMU"),
            new("alt-grab", null, "removed from QEMU; use -display sdl,grab-mod=…"),
            new("ctrl-grab", null, "removed from QEMU; use -display sdl,grab-mod=…"),
            new("no-quit", null, "removed from QEMU; use -display sdl,window-close=off"),
        ]),
        ("Network options",
        [
            new("netdev", "tap,id=str[,fd=h][,ifname=name][,script=file][,downscript=dfile]",
                "configure a network backend; scripts: 'no' for none, default /etc/qemu-ifup and /etc/qemu-ifdown"),
            new("nic", "[tap|none][,option][,...][mac=macaddr][,model=m]", "a network backend and its device in one"),
            new("net", "nic[,macaddr=mac][,model=type] | tap[,option][,...] | none",
                "the old way to configure a network device or backend"),
        ]),
        ("Character device options",
        [
            new("chardev", "backend,id=id[,mux=on|off][,prop[=value][,...]]",
                "configure a character backend: null, stdio, file, pty, socket ('-chardev help' for a list)"),
            new("serial", "dev", "redirect the serial port to char device 'dev': stdio, null, none, pty, file:path, " +
                "unix:path, tcp:host:port, telnet:host:port, mon:dev, chardev:id"),
            new("parallel", "dev", "redirect the parallel port to char device 'dev'"),
            new("monitor", "dev", "redirect the monitor to char device 'dev'"),
            new("qmp", "dev", "like -monitor but opens in 'control' mode"),
            new("qmp-pretty", "dev", "like -qmp but uses pretty JSON formatting"),
            new("mon", "[chardev=]name[,mode=readline|control][,pretty[=on|off]]", "a monitor on a character backend"),
            new("debugcon", "dev", "redirect the debug console (port 0xe9) to char device 'dev'"),
        ]),
        ("Linux/Multiboot boot specific",
        [
            new("kernel", "bzImage", "use 'bzImage' as kernel image"),
            new("append", "cmdline", "use 'cmdline' as kernel command line"),
            new("initrd", "file", "use 'file' as initial ram disk"),
            new("dtb", "file", "use 'file' as device tree image", Later),
        ]),
        ("Debug/Expert options",
        [
            new("bios", "file", "set the filename for the BIOS"),
            new("L", "path", "set the directory for the BIOS, VGA BIOS and option ROMs"),
            new("option-rom", "rom", "load a file, rom, into the option ROM space", Later),
            new("enable-kvm", null, "enable KVM full virtualization support"),
            new("S", null, "freeze CPU at startup (use 'c' to start execution)"),
            new("no-reboot", null, "exit instead of rebooting"),
            new("no-shutdown", null, "stop before shutdown"),
            new("action", "reboot=reset|shutdown | shutdown=poweroff|pause | panic=pause|shutdown|none",
                "what to do when the guest reboots, shuts down or panics"),
            new("rtc", "[base=utc|localtime|<datetime>][,clock=host|rt|vm][,driftfix=none|slew]",
                "set the RTC base and clock"),
            new("nodefaults", null, "don't create default devices"),
            new("no-user-config", null, "accepted: there are no user configuration files"),
            new("no-fd-bootchk", null, "accepted: boot signature checking for floppy disks is off"),
            new("no-hpet", null, "disable HPET"),
            new("no-acpi", null, "disable ACPI"),
            new("smbios", "file=binary | type=N[,field=value...]", "specify SMBIOS fields"),
            new("fw_cfg", "[name=]<name>,file=<file> | string=<str>", "add named fw_cfg entry with contents from " +
                "file or string"),
            new("object", "TYPENAME[,PROP1=VALUE1,...]", "create a new object"),
            new("d", "item1,...", "enable logging of specified items ('-d help' for a list)"),
            new("dfilter", "range[,...]", "filter debug output to range of addresses: FIRST..LAST, START+LENGTH, " +
                "END-LENGTH"),
            new("trace", "[[enable=]<pattern>][,events=<file>][,file=<file>]", "specify tracing options ('-trace " +
                "help' for a list of events)"),
            new("D", "logfile", "output log to logfile (default stderr)"),
            new("perfmap", null, "write /tmp/perf-${pid}.map: symbols of translated code for Linux perf"),
            new("msg", "[timestamp[=on|off]][,guest-name=[on|off]]", "control error message format"),
            new("overcommit", "[mem-lock=on|off][cpu-pm=on|off]", "run qkvm with overcommit hints"),
            new("sandbox",
                "on[,obsolete=allow|deny][,elevateprivileges=allow|deny|children][,spawn=allow|deny]" +
                "[,resourcecontrol=allow|deny]",
                "enable seccomp mode 2 system call filter"),
            new("audiodev", "[driver=]driver,id=id[,prop[=value][,...]]", "specifies the audio backend: none, or wav, "
                + "which writes a file"),
            new("audio", "[driver=]driver,model=model[,prop[=value][,...]]", "specifies the audio backend and the "
                + "sound card"),
            new("audio-help", null, "show what audio backends take"),
            new("soundhw", "model", "removed in QEMU 7.1; use -audio"),
            new("pidfile", "file", "write PID to 'file'"),
            new("daemonize", null, "daemonize after initializing"),
            new("gdb", "dev", "accept gdb connection on 'dev': tcp::1234, unix:path,server=on,wait=off, stdio, pty, " +
                "chardev:id, none"),
            new("s", null, "shorthand for -gdb tcp::1234"),
            new("metrics", "unix:path|tcp:host:port", "tell CPUs, disks, networks and more to Prometheus, at /metrics"),
            new("incoming", "uri", "start with a migration", Later),
            new("loadvm", "[tag|id]", "start right away with a saved state", Later),
            new("icount", "[shift=N|auto]", "enable virtual instruction counter", Later),
            new("watchdog-action", "reset|shutdown|poweroff|inject-nmi|pause|debug|none",
                "action when watchdog fires"),
            new("plugin", "[file=]<file>", "load a plugin", Later),
            new("readconfig", "<file>", "read config file"),
            new("writeconfig", "<file>", "write config file", Later),
            new("runas", "user", "change to user id user just before starting the VM; user can be numeric uid:gid "
                + "instead"),
            new("chroot", "dir", "chroot to dir just before starting the VM"),
            new("run-with", "[async-teardown=on|off][,chroot=dir][,user=username|uid:gid]",
                "set miscellaneous process lifecycle options"),
            new("tpmdev", "emulator,id=id,chardev=dev", "a TPM that swtpm executes, for -device tpm-tis or tpm-crb"),
            new("acpitable", "[sig=str][,rev=n][,oem_id=str][,oem_table_id=str][,oem_rev=n][,asl_compiler_id=str]"
                + "[,asl_compiler_rev=n],{data|file}=file1[:file2]...", "ACPI table description"),
            new("echr", "chr", "set terminal escape character instead of ctrl-a, by its number"),
            new("preconfig", null, "pause before machine is initialized", Later),
            new("only-migratable", null, "allow only migratable devices", Later),
            new("singlestep", null, "always run in singlestep mode", Later),
            new("seed", "number", "seed the pseudo-random number generator", Later),
        ]),
    ];

    public static IEnumerable<OptionSpec> All => Sections.SelectMany(section => section.Options);
}
