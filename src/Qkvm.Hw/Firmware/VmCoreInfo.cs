using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.State;

namespace Qkvm.Hw.Firmware;

/// <summary>vmcoreinfo: a firmware file into which the guest's kernel writes where its note for dumps lies. Spec:
/// QEMU's docs/specs/vmcoreinfo, 16 bytes, little endian: the host's format, the guest's, the note's length, its
/// address.</summary>
/// <remarks>Deviations: the guest may write the file in parts; what a part leaves counts once the format
/// does.</remarks>
public sealed class VmCoreInfo : IGuestNoteSource
{
    public static readonly DeviceModel Model = new("vmcoreinfo", BusKind.System, [],
        static (properties, site) =>
        {
            if (site.Bus.AllDevices.Any(node => node.Device is VmCoreInfo))
                throw properties.Error("at most one vmcoreinfo device is permitted");
            var device = new VmCoreInfo();
            site.Board.AddWritableFirmwareFile(File, device._file);
            return device;
        }) { Description = "where the guest's note for dumps lies", IsHotPluggable = false };

    const string File = "etc/vmcoreinfo";
    const int Size = 16, HostFormat = 0, GuestFormat = 2, NoteSize = 4, NoteAddress = 8;
    const ushort Elf = 1;

    readonly byte[] _file = new byte[Size];

    VmCoreInfo() => Reset();

    public string Name => Model.Name;

    public (ulong Address, uint Length) Note =>
        BinaryPrimitives.ReadUInt16LittleEndian(_file.AsSpan(GuestFormat)) != Elf ? default
            : (BinaryPrimitives.ReadUInt64LittleEndian(_file.AsSpan(NoteAddress)),
                BinaryPrimitives.ReadUInt32LittleEndian(_file.AsSpan(NoteSize)));

    public void Reset()
    {
        Array.Clear(_file);
        BinaryPrimitives.WriteUInt16LittleEndian(_file.AsSpan(HostFormat), Elf);
    }

    public void Exchange(StateStream state) => state.Block("file", _file);
}
