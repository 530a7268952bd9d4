using Qkvm.Accel.Tcg.Model;
using Qkvm.Core.Accel;
using Qkvm.Core.Audio;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Files;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Pci;
using Qkvm.Machines;
using Qkvm.Storage.Graph;

namespace Qkvm;

/// <summary>What users know from QEMU 7.2: a name that no catalogue has is looked up here, and refused with a line that
/// says what to use instead.</summary>
static class Missing
{
    /// <summary>By what else does the work meanwhile.</summary>
    static readonly (string Remedy, string Names)[] DeviceNames =
    [
        ("use virtio-mem-pci, on pc or q35", "virtio-mem"),
        ("use virtio-pmem-pci, on pc or q35", "virtio-pmem"),
        ("use virtio-net-pci", """
            e1000-82544gc e1000-82545em i82550 i82551 i82557a i82557b i82557c i82558a i82558b i82559a
            i82559b i82559c i82559er i82562 i82801 igb ne2k_isa ne2k_pci pcnet rocker tulip vmxnet3 rdma pvrdma
            """),
        ("use virtio-blk-pci", """
            am53c974 dc390 cxl-type3 fdc lsi53c810 lsi53c895a megasas megasas-gen2 mptsas1068
            pvscsi sd-card sdhci-pci spapr-vscsi
            """),
        ("the kernel's SCSI target is not asked; use virtio-scsi-pci with scsi-hd and its LUN's file or disk", """
            vhost-scsi vhost-scsi-pci vhost-scsi-pci-non-transitional vhost-scsi-pci-transitional
            """),
        ("processes serve disks by vhost-user-blk-pci; use that", """
            vhost-user-scsi vhost-user-scsi-pci vhost-user-scsi-pci-non-transitional vhost-user-scsi-pci-transitional
            """),
        ("guests encrypt faster by their processor's own instructions; leave it out",
            "virtio-crypto virtio-crypto-device virtio-crypto-pci"),
        ("queues in hardware are not passed on; use virtio-net-pci with -netdev tap,vhost=on",
            "vhost-vdpa-device vhost-vdpa-device-pci"),
        ("devices of the host stay with it; use scsi-hd with -drive file=/dev/sdX,if=none,id=ID",
            "scsi-block scsi-generic"),
        ("use nvme with nvme-ns: each controller is a subsystem of its own", "nvme-subsys"),
        ("use ide-hd on ide.0, or ahci", "piix3-ide piix4-ide sysbus-ahci cmd646-ide via-ide ide-cf"),
        ("use VGA, or virtio-vga", """
            ati-vga cirrus-vga isa-cirrus-vga qxl qxl-vga sga vfio-display
            virtio-gpu-gl virtio-gpu-gl-device virtio-gpu-gl-pci virtio-vga-gl vmware-svga
            """),
        ("the screen stays in this process; use virtio-gpu-pci, or virtio-vga",
            "vhost-user-gpu vhost-user-gpu-pci vhost-user-vga"),
        ("use isa-serial", "ipoctal232 tpci200 virtio-console"),
        ("use usb-serial, and a program of the host that reads its chardev", "usb-braille"),
        ("use usb-storage", "usb-bot usb-uas"),
        ("use piix3-usb-uhci", "vt82c686b-usb-uhci"),
        ("use usb-tablet, usb-mouse or usb-kbd", "usb-wacom-tablet vmmouse vmport"),
        ("use virtio-tablet-pci, virtio-mouse-pci or virtio-keyboard-pci", """
            vhost-user-input vhost-user-input-pci virtio-input-host-device virtio-input-host-pci
            """),
        ("devices of the host stay with it; for a stick use -drive file=/dev/sdX,if=none,id=ID with usb-storage, for a "
            + "serial port -chardev serial with usb-serial", "usb-host usb-redir"),
        ("smart cards and security keys stay with the host; forward the socket of an agent over virtserialport", """
            usb-ccid ccid-card-emulated ccid-card-passthru u2f-emulated u2f-passthru canokey
            """),
        ("give the guest files on a disk, or over its network: -nic user,tftp=FOLDER", "usb-mtp"),
        ("use AC97, ES1370, intel-hda with hda-duplex", "usb-audio"),
        ("use AC97, ES1370, intel-hda with hda-duplex, or sb16", "adlib cs4231a gus"),
        ("the machine has one: say what it plays to, -machine pcspk-audiodev=ID", "isa-pcspk"),
        ("leave it out", """
            i82801b11-bridge ioh3420 pci-bridge-seat pcie-pci-bridge pxb-cxl
            vfio-pci-igd-lpc-bridge x3130-upstream xio3130-downstream cxl-rp cxl-upstream
            cxl-downstream amd-iommu virtio-iommu virtio-iommu-pci vhost-user-i2c-pci
            vhost-user-gpio-pci edu generic-sdhci guest-loader hpet
            hyperv-testdev i2c-echo igd-passthrough-isa-bridge ipmi-bmc-extern ipmi-bmc-sim isa-applesmc
            isa-ipmi-bt isa-ipmi-kcs ivshmem-doorbell ivshmem-plain kvm-pci-assign kvaser_pci loader max31785 mctp-usb
            mioe3680_pci pca954x pci-ipmi-bt pci-ipmi-kcs pcm3680_pci port92 ctucan_pci pvpanic-pci
            qemu-s390-pci smbus-ipmi smbus-eeprom tpm-tis-device xen-platform
            xen-pvdevice mc146818rtc i8042 acpi-erst AMDVI-PCI hv-syndbg i2c-ddc vmbus-bridge x-pci-proxy-dev
            virtio-iommu-device vhost-user-gpio-device vhost-user-i2c-device
            """),
    ];

    public static IEnumerable<DeviceModel> Devices() =>
    [
        .. DeviceNames.SelectMany(group => Words(group.Names).Distinct().Select(name =>
            DeviceModel.Missing(name, $"; {group.Remedy}"))),
        .. VfioPci.Models,                                         // which say themselves what stands in the way
    ];

    /// <summary>-usbdevice: those of the devices above that it knows.</summary>
    public static (string Name, string Device)[] UsbDevices =>
        [("braille", "usb-braille"), ("wacom-tablet", "usb-wacom-tablet")];

    /// <summary>What -usbdevice took before QEMU 6.0, and what says the same since.</summary>
    public static (string Name, string Remedy)[] FormerUsbDevices =>
    [
        ("disk", "-drive file=FILE,if=none,id=ID -device usb-storage,drive=ID"),
        ("serial", "-chardev …,id=ID -device usb-serial,chardev=ID"),
        ("net", "-netdev …,id=ID -device usb-net,netdev=ID"),
        ("audio", "-audiodev …,id=ID -device intel-hda -device hda-duplex,audiodev=ID"),
    ];

    public static IEnumerable<CharModel> Chardevs() =>
    [
        CharModel.Missing("mux", "comes with mux=on of another one: -chardev stdio,id=X,mux=on"),
        CharModel.Missing("chardev", "has no meaning here; give the id alone, or -serial chardev:ID"),
        CharModel.Missing("console", "is a window of another system; use stdio, or vc"),
        CharModel.Missing("hub", "is not built yet; mux=on gives one backend to several frontends"),
        CharModel.Missing("msmouse", "is not built yet; the guest has a PS/2 mouse"),
        CharModel.Missing("wctablet", "is not built yet; the guest has a PS/2 mouse"),
        CharModel.Missing("braille", "is not built yet; use pty, and a program of the host that reads it"),
        CharModel.Missing("testdev", "is not built yet; -device isa-debug-exit ends a test with a code"),
        CharModel.Missing("tn3270", "is a terminal of other machines; use telnet"),
        .. Words("dbus qemu-vdagent spiceport spicevmc").Select(name =>
            CharModel.Missing(name, "is not built yet; use -vnc for the screen, and a socket for bytes")),
    ];

    public static IEnumerable<NetModel> Netdevs() =>
    [
        .. Words("vde vhost-vdpa netmap").Select(name => NetModel.Missing(name)),
    ];

    public static IEnumerable<TpmModel> Tpms() =>
    [
        TpmModel.Missing("passthrough", "is not built yet; run swtpm and use emulator: swtpm socket --tpm2 --tpmstate "
            + "dir=DIRECTORY --ctrl type=unixio,path=SOCKET, then -chardev socket,id=c,path=SOCKET -tpmdev "
            + "emulator,id=t,chardev=c"),
    ];

    public static IEnumerable<FileSystemModel> FileSystems() =>
    [
        FileSystemModel.Missing("synth", "is for tests of QEMU alone; use local"),
        FileSystemModel.Missing("proxy", "is not built; use local, with security_model=mapped-xattr where the "
            + "process is not root's"),
    ];

    public static IEnumerable<AudioModel> Audiodevs() => Words("alsa coreaudio dbus dsound jack oss pa pipewire sdl "
        + "sndio spice").Select(name => AudioModel.Missing(name, "is not built yet; use wav, which writes a "
            + "file, or none"));

    public static IEnumerable<BlockDriverModel> BlockDrivers() =>
    [
        .. Words("qcow")
            .Select(name => BlockDriverModel.Missing(name,
                "is not supported yet; convert the image: qemu-img convert -O qcow2 OLD NEW")),
        .. Words("""
            blkdebug blklogwrites blkreplay blkverify compress copy-before-write gluster
            iscsi nfs nvme preallocate quorum rbd replication snapshot-access
            """).Select(name => BlockDriverModel.Missing(name, "is not built yet")),
        .. Words("ftp ftps").Select(name => BlockDriverModel.Missing(name,
            "is not built yet; use http or https, or nbdkit's curl plugin and nbd")),
        BlockDriverModel.Missing("ssh", "is not built yet; mount the directory by sshfs, or serve the image by "
            + "qkvm nbd behind ssh -L"),
    ];

    public static IEnumerable<ObjectModel> Objects() =>
    [
        ObjectModel.Missing("memory-backend-epc", "is not built yet; use memory-backend-ram"),
        .. Words("filter-buffer filter-mirror filter-redirector filter-replay filter-rewriter")
            .Select(name => ObjectModel.Missing(name, "is not built yet; of the filters there is filter-dump")),
        ObjectModel.Missing("rng-egd", "is not built yet; use rng-random"),
        .. Words("""
            authz-list authz-list-file authz-pam authz-simple can-bus can-host-socketcan colo-compare cryptodev-backend
            cryptodev-backend-builtin cryptodev-vhost-user dbus-vmstate input-barrier input-linux main-loop
            pr-manager-helper qtest secret secret_keyring sev-guest thread-context tls-cipher-suites
            tls-creds-anon tls-creds-psk vfio-user-server x-remote-object
            """).Select(name => ObjectModel.Missing(name)),
    ];

    /// <summary>Their defaults shape what short forms expand to, though the machine is refused.</summary>
    public static IEnumerable<MachineModel> Machines()
    {
        var bare = new MachineDefaults(NetworkCard: "ne2k_isa", VideoAddress: "0x1");
        foreach (string version in Words("1.7 1.6 1.5 1.4"))
            yield return MachineModel.Missing($"pc-i440fx-{version}", bare);
        foreach (string name in Words("none x-remote xenfv "
            + "xenpv")) yield return MachineModel.Missing(name, bare);
    }

    public static IEnumerable<AcceleratorModel> Accelerators() => Words("hax hvf nvmm qtest whpx xen")
        .Select(AcceleratorModel.Missing);

    public static IEnumerable<DisplayModel> Displays() =>
    [
        DisplayModel.Missing("cocoa", "is of macOS alone; use -display vnc=:0 with a VNC viewer"),
        DisplayModel.Missing("dbus", "is not built yet; use -display vnc=unix:/path, which other programs can show"),
        DisplayModel.Missing("egl-headless",
            "is not built yet: no card here draws in three dimensions; use -display none, or vnc=:0 alone"),
        DisplayModel.Missing("spice-app", "is not built yet; use -display gtk, which says how to see the screen with "
            + "a VNC viewer or a browser, or vnc=:0"),
    ];

    static string[] Words(string text) => text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
}
