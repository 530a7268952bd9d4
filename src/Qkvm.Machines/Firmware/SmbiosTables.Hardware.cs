using Qkvm.Core.Configuration;
using Qkvm.Core.Machine;

namespace Qkvm.Machines.Firmware;

// Types 4, 8, 16, 17, 19 and 41: processors, connectors, memory, devices.
public static partial class SmbiosTables
{
    const ulong DimmSize = 16UL << 30;

    // Section 7.42.2, in its order from 1 on
    static readonly string[] s_onboardKinds =
        ["other", "unknown", "video", "scsi", "ethernet", "tokenring", "sound", "pata", "sata", "sas"];

    static SmbiosStructure Processor(SmbiosPlatform platform, SmbiosOptions options, int socket)
    {
        const byte CentralProcessor = 3, OtherFamily = 1, PopulatedEnabled = 0x41, OtherUpgrade = 1;
        const ushort NoCache = 0xFFFF, Characteristics = 2;        // unknown
        CpuTopology topology = platform.Topology;
        int cores = topology.Dies * topology.Cores, threads = cores * topology.Threads;
        SmbiosStructure processor = new SmbiosStructure(4, (ushort)(0x400 + socket))
            .Text($"{options.Text(4, "sock_pfx", "CPU")} {socket}").U8(CentralProcessor).U8(OtherFamily)
            .Text(options.Text(4, "manufacturer", "QEMU"))
            .U64(options.Number(4, "processor-id", platform.ProcessorId, ulong.MaxValue))
            .Text(options.Text(4, "version", platform.MachineType))
            .U8(0).U16(0).U16((ushort)options.Number(4, "max-speed", 2000))
            .U16((ushort)options.Number(4, "current-speed", 2000))
            .U8(PopulatedEnabled).U8(OtherUpgrade).U16(NoCache).U16(NoCache).U16(NoCache)
            .Text(options.Text(4, "serial")).Text(options.Text(4, "asset")).Text(options.Text(4, "part"))
            .U8(Short(cores)).U8(Short(cores)).U8(Short(threads)).U16(Characteristics).U16(OtherFamily);
        return !platform.HasWideAnchor ? processor
            : processor.U16((ushort)cores).U16((ushort)cores).U16((ushort)threads);

        static byte Short(int count) => (byte)Math.Min(count, 0xFF);
    }

    static SmbiosStructure PortConnector(SmbiosOptions connector, int index)
    {
        const byte Unconnected = 0;
        return new SmbiosStructure(8, (ushort)(0x800 + index))
            .Text(connector.Text(8, "internal_reference")).U8(Unconnected)
            .Text(connector.Text(8, "external_reference"))
            .U8((byte)connector.Number(8, "connector_type", 0, byte.MaxValue))
            .U8((byte)connector.Number(8, "port_type", 0, byte.MaxValue));
    }

    static SmbiosStructure OnboardDevice(SmbiosPlatform platform, SmbiosOptions device, int index)
    {
        const byte Enabled = 0x80;
        string kind = device.Text(41, "kind", s_onboardKinds[0])!;
        int type = Array.IndexOf(s_onboardKinds, kind) + 1;
        if (type == 0)
            throw new ConfigurationException($"-smbios type=41: kind={kind} is none of {string.Join(", ",
                s_onboardKinds)}");
        SmbiosStructure onboard = new SmbiosStructure(41, (ushort)(0x2900 + index))
            .Text(device.Text(41, "designation")).U8((byte)(Enabled | type))
            .U8((byte)device.Number(41, "instance", 0, byte.MaxValue));
        if (device.Text(41, "pcidev") is not { } id) return onboard.U16(0).U8(0).U8(0);
        (int bus, int devFn) = platform.FindDevice(id)
            ?? throw new ConfigurationException($"-smbios type=41: pcidev={id}: No PCI device {id} for SMBIOS type 41 "
                + "entry; give a -device with that id=");
        return onboard.U16(0).U8((byte)bus).U8((byte)devFn);
    }

    /// <summary>Types 16, 17 and 19: the array, one device for each 16 GiB, and where they appear.</summary>
    static List<SmbiosStructure> Memory(SmbiosPlatform platform, SmbiosOptions options)
    {
        const byte OtherLocation = 1, SystemMemory = 3, MultiBitEcc = 6, Dimm = 9, Ram = 7;
        const ushort OtherDetail = 2, NoErrorInformation = 0xFFFE, UseExtended = 0x7FFF;
        ulong total = platform.BelowFourGiB + platform.AboveFourGiB;
        int dimms = (int)((total + DimmSize - 1) / DimmSize);
        bool extended = total >= 2UL << 40;
        var structures = new List<SmbiosStructure>();
        structures.Add(new SmbiosStructure(16, 0x1000).U8(OtherLocation).U8(SystemMemory).U8(MultiBitEcc)
            .U32(extended ? 0x8000_0000 : (uint)(total >> 10)).U16(NoErrorInformation).U16((ushort)dimms)
            .U64(extended ? total : 0));
        for (int i = 0; i < dimms; i++)
        {
            ulong mebibytes = Math.Min(DimmSize, total - (ulong)i * DimmSize) >> 20;
            bool big = mebibytes >= UseExtended;
            structures.Add(new SmbiosStructure(17, (ushort)(0x1100 + i)).U16(0x1000).U16(NoErrorInformation).U16(0xFFFF)
                .U16(0xFFFF)
                .U16(big ? UseExtended : (ushort)mebibytes).U8(Dimm).U8(0)
                .Text($"{options.Text(17, "loc_pfx", "DIMM")} {i}").Text(options.Text(17, "bank")).U8(Ram)
                .U16(OtherDetail)
                .U16((ushort)options.Number(17, "speed", 0)).Text(options.Text(17, "manufacturer", "QEMU"))
                .Text(options.Text(17, "serial")).Text(options.Text(17, "asset"))
                .Text(options.Text(17, "part")).U8(0)
                .U32(big ? (uint)mebibytes : 0).U16((ushort)options.Number(17, "speed", 0)).U16(0).U16(0).U16(0));
        }
        structures.Add(MappedAddress(0, 0, platform.BelowFourGiB));
        if (platform.AboveFourGiB > 0) structures.Add(MappedAddress(1, platform.AboveStart, platform.AboveFourGiB));
        return structures;
    }

    static SmbiosStructure MappedAddress(int index, ulong start, ulong size)
    {
        ulong first = start >> 10, last = (start + size - 1) >> 10;
        bool extended = last >= uint.MaxValue;
        return new SmbiosStructure(19, (ushort)(0x1300 + index))
            .U32(extended ? uint.MaxValue : (uint)first).U32(extended ? uint.MaxValue : (uint)last).U16(0x1000).U8(1)
            .U64(extended ? start : 0).U64(extended ? start + size - 1 : 0);
    }
}
