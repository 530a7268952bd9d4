using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Configuration;

namespace Qkvm.Hw.Nvme;

/// <summary>What controller and namespaces say of themselves. NVMe 1.4, sections 5.14 and 5.15.</summary>
public sealed partial class Nvme
{
    public const int MostNamespaces = 256;

    const byte ErrorLog = 1, SmartLog = 2, FirmwareLog = 3, ChangedNamespacesLog = 4, EffectsLog = 5;
    const string Firmware = "1.0", Model = "QEMU NVMe Ctrl";
    const ushort Temperature = 323, Warning = 343, Critical = 373; // kelvin

    readonly byte[] _data = new byte[Page];                        // not migrated: full only within a call

    public NvmeNamespace? Find(uint id) => id is > 0 and <= MostNamespaces ? _namespaces[id] : null;

    /// <summary>The first after a number, or null.</summary>
    internal NvmeNamespace? FindFrom(int id)
    {
        while (++id <= MostNamespaces)
            if (_namespaces[id] is { } found) return found;
        return null;
    }

    /// <summary>A namespace comes, before the machine starts.</summary>
    /// <param name="id">0 for the first that is free.</param>
    public void Add(NvmeNamespace added, int id)
    {
        if (id == 0) id = Array.IndexOf(_namespaces, null, 1);
        if (id < 0) throw new ConfigurationException($"{Name}: no free namespace id");
        (added.Id, _namespaces[id]) = (id, added);
        added.Backend.MediumChanged += () => NamespaceChanged(added);
    }

    ushort Identify(NvmeCommand command)
    {
        const byte ofNamespace = 0, ofController = 1, active = 2, descriptors = 3, allocated = 0x10,
            ofAllocated = 0x11;
        Span<byte> data = _data;
        data.Clear();
        NvmeNamespace? found = Find(command.Namespace);
        switch ((byte)command[10])
        {
            case ofNamespace or ofAllocated when found == null:
                bool isPossible = command.Namespace is > 0 and (<= MostNamespaces or uint.MaxValue);
                if (!isPossible) return NvmeStatus.InvalidNamespace;
                break;                                             // an inactive one is zeros
            case ofNamespace or ofAllocated: found!.Identify(data); break;
            case ofController: IdentifyController(data); break;
            case active or allocated:
                if (command.Namespace >= uint.MaxValue - 1) return NvmeStatus.InvalidNamespace;
                int at = 0;
                for (int id = (int)Math.Min(command.Namespace, MostNamespaces); FindFrom(id) is { } next; id = next.Id)
                {
                    BinaryPrimitives.WriteInt32LittleEndian(data[at..], next.Id);
                    at += 4;
                }
                break;
            case descriptors when found != null: found.Describe(data); break;
            case descriptors: return NvmeStatus.InvalidNamespace;
            default: return NvmeStatus.InvalidField;
        }
        return Send(command, data);
    }

    /// <summary>Figure 251.</summary>
    void IdentifyController(Span<byte> data)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(data, Identity.VendorId);
        BinaryPrimitives.WriteUInt16LittleEndian(data[2..], Identity.SubsystemVendorId);
        Put(data.Slice(4, 20), _options.Serial);
        Put(data.Slice(24, 40), Model);
        Put(data.Slice(64, 8), Firmware);
        data[72] = 6;                                              // RAB
        (data[73], data[74], data[75]) = (0x00, 0x54, 0x52);       // IEEE: of QEMU's MAC addresses
        data[77] = (byte)_options.MaxTransfer;
        BinaryPrimitives.WriteUInt32LittleEndian(data[80..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(data[92..], NamespaceChanges);   // OAES
        data[111] = 1;                                             // CNTRLTYPE: I/O
        data[258] = 3;                                             // ACL
        data[259] = (byte)_options.EventRequests;                  // AERL
        data[260] = 1 << 1 | 1;                                    // FRMW: one slot, which is read-only
        data[261] = 1 << 2 | 1 << 1 | 1;                           // LPA: SMART by namespace, effects, offsets
        BinaryPrimitives.WriteUInt16LittleEndian(data[266..], Warning);
        BinaryPrimitives.WriteUInt16LittleEndian(data[268..], Critical);
        (data[512], data[513]) = (0x66, 0x44);                     // SQES, CQES: 64 and 16 bytes
        BinaryPrimitives.WriteUInt32LittleEndian(data[516..], MostNamespaces);
        data[520] = 1 << 3 | 1 << 2 | 1;                           // ONCS: Write Zeroes, Dataset Management, Compare
        data[525] = 3 << 1 | 1;                                    // VWC: there is one; Flush of all namespaces
        Encoding.UTF8.GetBytes($"nqn.2019-08.org.qemu:{_options.Serial}", data.Slice(768, 256));
        BinaryPrimitives.WriteUInt16LittleEndian(data[2048..], 2500);      // power state 0: 25 W
        BinaryPrimitives.WriteUInt32LittleEndian(data[2052..], 16);
        BinaryPrimitives.WriteUInt32LittleEndian(data[2056..], 4);
    }

    ushort GetLogPage(NvmeCommand command)
    {
        byte page = (byte)command[10];
        bool keepsEvents = (command[10] & 1 << 15) != 0;
        ulong length = ((ulong)(command[11] & 0xFFFF) << 16 | command[10] >> 16) * 4 + 4,
            offset = command[12] | (ulong)command[13] << 32;
        Span<byte> data = _data;
        data.Clear();
        int size;
        switch (page)
        {
            case ErrorLog: size = 64; break;                       // no errors are kept
            case SmartLog:
                if (command.Namespace != uint.MaxValue && command.Namespace != 0 && Find(command.Namespace) == null)
                    return NvmeStatus.InvalidNamespace;
                WriteSmart(data, command.Namespace);
                size = 512;
                break;
            case FirmwareLog:
                data[0] = 1;
                Put(data.Slice(8, 8), Firmware);
                size = 512;
                break;
            case ChangedNamespacesLog:
                for (int i = 0; i < _changed.Count; i++)
                    BinaryPrimitives.WriteInt32LittleEndian(data[(4 * i)..], _changed[i]);
                if (!keepsEvents) _changed.Clear();
                size = Page;
                break;
            case EffectsLog:
                WriteEffects(data);
                size = Page;
                break;
            default: return NvmeStatus.InvalidLogPage;
        }
        if (offset >= (ulong)size || (offset & 3) != 0) return NvmeStatus.InvalidField;
        if (!keepsEvents) Acknowledge(page);
        return Send(command, data.Slice((int)offset, (int)Math.Min(length, (ulong)size - offset)));
    }

    /// <summary>Figure 194: what all namespaces count, or one.</summary>
    void WriteSmart(Span<byte> data, uint only)
    {
        const ulong unit = 512 * 1000;
        (ulong reads, ulong writes, ulong bytesRead, ulong bytesWritten) = (0, 0, 0, 0);
        for (int id = 0; FindFrom(id) is { } found; id = found.Id)
        {
            if (Find(only) is { } one && found != one) continue;
            reads += found.ReadCommands;
            writes += found.WriteCommands;
            bytesRead += found.BytesRead;
            bytesWritten += found.BytesWritten;
        }
        BinaryPrimitives.WriteUInt16LittleEndian(data[1..], Temperature);
        BinaryPrimitives.WriteUInt64LittleEndian(data[32..], (bytesRead + unit - 1) / unit);
        BinaryPrimitives.WriteUInt64LittleEndian(data[48..], (bytesWritten + unit - 1) / unit);
        BinaryPrimitives.WriteUInt64LittleEndian(data[64..], reads);
        BinaryPrimitives.WriteUInt64LittleEndian(data[80..], writes);
    }

    /// <summary>Figure 202: commands that there are, and of the I/O ones whether they change data.</summary>
    static void WriteEffects(Span<byte> data)
    {
        const uint supported = 1, changesData = 2;
        for (byte opcode = 0; opcode <= NvmeOpcode.AsyncEventRequest; opcode++)
            if (opcode is not (0x03 or 0x07 or 0x0B))
                BinaryPrimitives.WriteUInt32LittleEndian(data[(opcode * 4)..], supported);
        ReadOnlySpan<byte> io = [NvmeOpcode.Flush, NvmeOpcode.Write, NvmeOpcode.Read, NvmeOpcode.Compare,
            NvmeOpcode.WriteZeroes, NvmeOpcode.DatasetManagement];
        foreach (byte opcode in io)
            BinaryPrimitives.WriteUInt32LittleEndian(data[(1024 + opcode * 4)..],
                supported | (opcode is NvmeOpcode.Read or NvmeOpcode.Compare ? 0 : changesData));
    }

    static void Put(Span<byte> field, string text)
    {
        field.Fill((byte)' ');
        Encoding.ASCII.GetBytes(text.AsSpan(0, Math.Min(text.Length, field.Length)), field);
    }
}
