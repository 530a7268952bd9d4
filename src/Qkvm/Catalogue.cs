using Qkvm.Accel.Kvm;
using Qkvm.Accel.Tcg;
using Qkvm.Accel.Tcg.Model;
using Qkvm.Backends.Audio;
using Qkvm.Backends.Char;
using Qkvm.Backends.Display;
using Qkvm.Backends.Display.Curses;
using Qkvm.Backends.Files;
using Qkvm.Backends.Net;
using Qkvm.Backends.Net.Hub;
using Qkvm.Backends.Net.Sockets;
using Qkvm.Backends.Net.User;
using Qkvm.Backends.Objects;
using Qkvm.Backends.Tpm;
using Qkvm.Cli;
using Qkvm.Control;
using Qkvm.Core.Accel;
using Qkvm.Core.Audio;
using Qkvm.Core.Char;
using Qkvm.Core.Devices;
using Qkvm.Core.Display;
using Qkvm.Core.Files;
using Qkvm.Core.Machine;
using Qkvm.Core.Net;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Audio;
using Qkvm.Hw.Char;
using Qkvm.Hw.Display;
using Qkvm.Hw.Firmware;
using Qkvm.Hw.Iommu;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Net;
using Qkvm.Hw.Nvme;
using Qkvm.Hw.Pci;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Tpm;
using Qkvm.Hw.Usb;
using Qkvm.Hw.Virtio;
using Qkvm.Hw.Virtio.Gpu;
using Qkvm.Hw.Watchdog;
using Qkvm.Machines;
using Qkvm.Machines.Isa;
using Qkvm.Machines.Microvm;
using Qkvm.Machines.None;
using Qkvm.Machines.Pc;
using Qkvm.Machines.Q35;
using Qkvm.Storage.Drivers.Bochs;
using Qkvm.Storage.Drivers.Cloop;
using Qkvm.Storage.Drivers.CloudInit;
using Qkvm.Storage.Drivers.CopyOnRead;
using Qkvm.Storage.Drivers.Dmg;
using Qkvm.Storage.Drivers.File;
using Qkvm.Storage.Drivers.Http;
using Qkvm.Storage.Drivers.Luks;
using Qkvm.Storage.Drivers.Nbd;
using Qkvm.Storage.Drivers.Null;
using Qkvm.Storage.Drivers.Parallels;
using Qkvm.Storage.Drivers.Qcow2;
using Qkvm.Storage.Drivers.Qed;
using Qkvm.Storage.Drivers.Raw;
using Qkvm.Storage.Drivers.Throttle;
using Qkvm.Storage.Drivers.Vdi;
using Qkvm.Storage.Drivers.Vhdx;
using Qkvm.Storage.Drivers.Vmdk;
using Qkvm.Storage.Drivers.Vpc;
using Qkvm.Storage.Drivers.Vvfat;
using Qkvm.Storage.Graph;

namespace Qkvm;

/// <summary>Everything that users can name: a new one is one line here. Help, "did you mean" and creation read it. What
/// QEMU has
/// beside these stands in <see cref="Missing"/>.</summary>
static class Catalogue
{
    public static readonly Catalogue<DeviceModel> Devices = new("valid device model name", static () =>
    [
        Ahci.Model,
        IsaIde.Model,
        IdeModels.HardDisk,
        IdeModels.CdRom,
        I82078.Model,
        FloppyDrive.Model,
        .. VirtioBlk.Models,
        .. VhostUserBlk.Models,
        .. VhostUserFs.Models,
        .. Virtio9p.Models,
        .. VirtioScsi.Models,
        ScsiModels.HardDisk,
        ScsiModels.CdRom,
        NvmeModels.Controller,
        NvmeModels.Namespace,
        .. VirtioNet.Models,
        E1000.Model,
        E1000e.Model,
        Rtl8139.Model,
        .. VirtioRng.Models,
        .. VhostUserRng.Models,
        .. VhostUserVsock.Models,
        .. VhostVsock.Models,
        VirtioMem.Model, VirtioPmem.Model, .. VirtioBalloon.Models,
        .. VirtioSerialModels.Devices,
        VirtioSerialModels.Console,
        VirtioSerialModels.SerialPort,
        .. VirtioInputModels.All,
        StdVga.Model,
        StdVga.Secondary,
        BochsDisplay.Model,
        Ramfb.Model,
        .. VirtioGpuModels.Models,
        VirtioGpuModels.Vga,
        IsaVga.Model,
        Ac97.Model,
        Es1370.Model,
        HdaController.Ich6,
        HdaController.Ich9,
        HdaCodec.Duplex,
        HdaCodec.Output,
        HdaCodec.Micro,
        Sb16.Model,
        .. VirtioSound.Models,
        IsaSerial.Model,
        PciSerial.Single,
        PciSerial.Double,
        PciSerial.Quadruple,
        ParallelPort.Model,
        Debugcon.Model,
        IsaDebugExit.Model,
        Pvpanic.Model,
        PvpanicPci.Model,
        I6300Esb.Model,
        Ib700.Model,
        VmGenerationId.Model,
        VmCoreInfo.Model,
        PcTestDev.Model,
        PciTestDev.Model,
        .. Uhci.Models,
        Ohci.Model,
        .. Ehci.Models,
        Xhci.Model,
        Xhci.Nec,
        UsbHub.Model,
        UsbStorage.Model,
        UsbSerial.Model,
        UsbNet.Model,
        UsbPointer.Tablet,
        UsbPointer.Mouse,
        UsbKeyboard.Model,
        RedHatPciBridge.Model,
        PcieRootPort.Model,
        Ioh3420.Model,
        X3130Upstream.Model,
        Xio3130Downstream.Model,
        PciePciBridge.Model, PciExpander.Model, PciExpander.ExpressModel,
        I82801b11Bridge.Model,
        TpmTis.Model,
        TpmCrb.Model,
        IntelIommu.Model,
        Dimm.Model, Nvdimm.Model,
        .. Cpus(),
    ], Missing.Devices);

    public static readonly Catalogue<CharModel> Chardevs = new("valid char driver name", static () =>
    [
        NullChar.Model,
        ConsoleChar.Model,
        StdioChar.Model,
        FileChar.Model,
        PtyChar.Model,
        SocketChar.Model,
        TtyChar.Model,
        PipeChar.Model,
        UdpChar.Model,
        ParallelChar.Model,
        RingbufChar.Model,
    ], Missing.Chardevs);

    public static readonly Catalogue<NetModel> Netdevs = new("network backend", static () =>
    [
        TapBackend.Model,
        UserNetModel.Model,
        BridgeNet.Model,
        SocketNet.Model,
        StreamNetModel.Model,
        DatagramNetModel.Model,
        VhostUserNet.Model,
        L2tpNet.Model,
        PasstNet.Model,
        HubPort.Model,
    ], Missing.Netdevs);

    public static readonly Catalogue<TpmModel> Tpms = new("TPM backend type", static () =>
    [
        TpmEmulator.Model,
    ], Missing.Tpms);

    public static readonly Catalogue<FileSystemModel> FileSystems = new("file system driver", static () =>
    [
        LocalFolder.Model,
    ], Missing.FileSystems);

    public static readonly Catalogue<AudioModel> Audiodevs = new("audio driver", static () =>
    [
        NoneAudio.Model,
        WavAudio.Model,
    ], Missing.Audiodevs);

    public static readonly Catalogue<BlockDriverModel> BlockDrivers = new("block driver", static () =>
    [
        RawDriver.Model,
        Qcow2Driver.Model,
        VmdkDriver.Model,
        VdiDriver.Model,
        VpcDriver.Model,
        VhdxDriver.Model,
        QedDriver.Model,
        ParallelsDriver.Model,
        BochsDriver.Model,
        CloopDriver.Model,
        DmgDriver.Model,
        LuksDriver.Model,
        FileDriver.Model,
        FileDriver.HostDevice,
        NbdDriver.Model,
        HttpDriver.Http,
        HttpDriver.Https,
        VvfatDriver.Model,
        CloudInitDriver.Model,
        FileDriver.HostCdrom,
        NullDriver.Model,
        NullDriver.Aio,
        CopyOnReadDriver.Model,
        ThrottleDriver.Model,
    ], Missing.BlockDrivers);

    public static readonly Catalogue<ObjectModel> Objects = new("type of object", static () =>
    [
        MemoryBackendRam.Model,
        MemoryBackendFile.Model,
        MemoryBackendMemfd.Model,
        MemoryBackendShm.Model,
        RngRandom.Model,
        RngBuiltin.Model,
        Secret.Model,
        TlsCredentialsX509.Model,
        IoThreadObject.Model,
        ThrottleGroupObject.Model,
        FilterDump.Model,
        MonitorObjects.Control,
        MonitorObjects.Human,
    ], Missing.Objects);

    public static readonly Catalogue<MachineModel> Machines = new("machine type", static () =>
    [
        .. PcMachine.Versions,
        .. Q35Machine.Versions,
        MicrovmMachine.Model,
        IsaPcMachine.Model,
        NoneMachine.Model,
    ], Missing.Machines);

    public static readonly Catalogue<AcceleratorModel> Accelerators = new("accelerator", static () =>
    [
        KvmAccelerator.Model,
        TcgAccelerator.Model,
    ], Missing.Accelerators);

    public static readonly Catalogue<DisplayModel> Displays = new("display", static () =>
    [
        NoDisplay.Model,
        VncServer.Model,
        CursesDisplay.Model,
        WindowDisplay.Gtk,
        WindowDisplay.Sdl,
    ], Missing.Displays);

    static IEnumerable<DeviceModel> Cpus() => CpuModels.All.Select(model => model.Name)
        .Concat(CpuModels.Aliases.Keys).Append("host").Distinct().Select(CpuDevice.Model);

    // What short forms of options stand for

    /// <summary>-vga.</summary>
    public static (string Name, DeviceModel? Model)[] VideoCards => [("std", StdVga.Model),
        ("virtio", VirtioGpuModels.Vga), ("none", null)];

    /// <summary>The same on a machine without PCI.</summary>
    public static (string Name, DeviceModel? Model)[] IsaVideoCards => [("std", IsaVga.Model), ("none", null)];

    /// <summary>-usbdevice.</summary>
    public static (string Name, string Device)[] UsbDevices =>
    [
        ("tablet", UsbPointer.Tablet.Name), ("mouse", UsbPointer.Mouse.Name), ("keyboard", UsbKeyboard.Model.Name),
        .. Missing.UsbDevices,
    ];

    /// <summary>-audio model=.</summary>
    public static SoundCard[] SoundCards =>
        [new("ac97", Ac97.Model), new("es1370", Es1370.Model), new("hda", HdaController.Ich6, HdaCodec.Duplex),
        new("sb16", Sb16.Model), new("virtio", VirtioSound.Models[0])];

    /// <summary>What QEMU has beside these.</summary>
    public static string[] MissingSoundCards => ["adlib", "cs4231a", "gus"];

    /// <summary>-drive if=: the disk and, where there is one, the CD-ROM drive of the interface.</summary>
    public static (string Name, DeviceModel Disk, DeviceModel? Cdrom)[] DriveInterfaces =>
        [("ide", IdeModels.HardDisk, IdeModels.CdRom), ("virtio", VirtioBlk.Models[0], null),
        ("floppy", FloppyDrive.Model, null)];

    /// <summary>-net nic,model= and -nic model= beside device names.</summary>
    public static (string Name, DeviceModel Model)[] NetworkCards =>
        [("virtio", VirtioNet.Models[0]), ("e1000", E1000.Model),
        ("e1000e", E1000e.Model), ("rtl8139", Rtl8139.Model)];
}
