using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;
using Qkvm.Hw.Storage;

namespace Qkvm.Machines.Pc;

/// <summary>The PC's flash chips: the first, with the firmware, ends at 4 GiB; the second, with its variables, ends
/// where the first begins.</summary>
public static class SystemFlash
{
    /// <summary>What -machine calls them.</summary>
    public static readonly string[] Units = ["pflash0", "pflash1"];

    internal static readonly string[] Globals = [$"{Pflash.Driver}.{Secure}"];

    /// <summary>Of -global cfi.pflash01: written in system management mode alone, and to all others a ROM.</summary>
    const string Secure = "secure";
    const ulong MostBytes = 8 << 20;                               // of all

    /// <param name="drives">Of each chip; null for one that is left out.</param>
    /// <exception cref="ConfigurationException">A drive is missing, has a wrong size or cannot be read.</exception>
    internal static void Place(Board board, IReadOnlyList<string?> drives)
    {
        if (drives is not [string, ..])
        {
            if (drives.Any(drive => drive != null))
                throw new ConfigurationException($"{Units[1]} requires {Units[0]}: the firmware's variables need a "
                    + $"firmware; give -drive if=pflash,unit=0,readonly=on,file=OVMF_CODE_4M.fd");
            return;
        }
        bool isSecure = new ChipGlobals(board.Config, Pflash.Driver).Bool(Secure, false);
        ulong total = 0;
        for (int i = 0; i < drives.Count; i++)
        {
            if (drives[i] is not { } id) continue;
            BlockBackend drive = board.TakeDrive(id, $"-machine {Units[i]}={id}");
            ulong size = (ulong)drive.Length;
            if (size == 0 || size % Pflash.SectorSize != 0)
                throw new ConfigurationException($"system firmware block device {id} has invalid size {size} "
                    + $"({drive.Description}); it must be a non-zero multiple of {Pflash.SectorSize >> 10} KiB");
            total += size;
            if (total > MostBytes)
                throw new ConfigurationException($"combined size of system firmware exceeds {MostBytes} bytes: "
                    + $"{id} ({drive.Description}) has {size}");
            GuestRam contents = board.Layout.NewRom($"system.flash{i}", size);
            Load(drive, contents, id);
            var chip = new Pflash(contents, drive);
            board.Own(board.Tree, new QDevice(Pflash.Driver, null, chip, [new("drive", id)])
                { MachineName = contents.Name });
            MemoryRegion shown = isSecure ? chip.Contents : chip.Region;
            MemoryRegion? inSmm = isSecure ? chip.Region : null;
            if (i == 0) board.Layout.PlaceFirmware(shown, inSmm);
            else board.Layout.PlaceFlash(PcMemory.FourGiB - total, shown, inSmm);
        }
    }

    static void Load(BlockBackend drive, GuestRam contents, string id)
    {
        try
        {
            drive.Root!.ReadAsync(0, new ScatterList(contents.Memory(0, (int)contents.Size))).AsTask().GetAwaiter()
                .GetResult();
        }
        catch (BlockException e)
        {
            throw new ConfigurationException($"{id}: cannot read {drive.Description}: {e.Message}", e);
        }
    }
}
