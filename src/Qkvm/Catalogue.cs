using Qkvm.Core.Devices;
using Qkvm.Hw.Char;
using Qkvm.Hw.Display;
using Qkvm.Hw.Isa;
using Qkvm.Hw.Storage;
using Qkvm.Hw.Virtio;

namespace Qkvm;

/// <summary>Every device that -device can name: a new one is one line here. Help, "did you mean" and creation read it.</summary>
static class Catalogue
{
    public static readonly DeviceModel[] Devices =
    [
        IdeModels.HardDisk,
        IdeModels.CdRom,
        .. VirtioBlk.Models,
        .. VirtioNet.Models,
        .. VirtioRng.Models,
        .. VirtioBalloon.Models,
        StdVga.Model,
        IsaSerial.Model,
        ParallelPort.Model,
        Debugcon.Model,
        IsaDebugExit.Model,
        Pvpanic.Model,
        PcTestDev.Model,
        PciTestDev.Model,
    ];
}
