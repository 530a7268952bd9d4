using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Host;
using Qkvm.Machines.Firmware;
using Qkvm.Machines.Tests.Firmware;

namespace Qkvm.Machines.Tests;

/// <summary>NVDIMMs: their tables, byte by byte what QEMU 7.2's are for the same machine, and what their methods do by
/// Intel's "NVDIMM DSM Interface", revision 1.8.</summary>
public sealed class NvdimmTests : IDisposable
{
    const ulong MiB = 1 << 20, Page = 0x10_0000, LabelSize = 128 << 10;
    const int HeaderSize = 36, Arguments = 12, Result = 4;
    const ushort Port = 0x0A18;
    const uint First = 1, Second = 2;                              // handles

    /// <summary>256 MiB of which 128 KiB are labels; 64 MiB without, unarmed; nvdimm-persistence=mem-ctrl.</summary>
    const string Nfit =
        "000000000000380002000300000000000000000079d3f066f3b47440ac430d3318b78cdb00000000010000000000fe0f0000"
        + "00000880000000000000010030000100000000000000020003000000fe0f0000000000000000000000000000000000000000"
        + "0000010000000000040050000300868001000100000000000000000000000000563412000103000000000000000000000000"
        + "0000000000000000000000000000000000000000000000000000000000000000000000000000000038000400030000000000"
        + "0000000079d3f066f3b47440ac430d3318b78cdb0000fe0f0100000000000004000000000880000000000000010030000200"
        + "0000000000000400050000000004000000000000000000000000000000000000000000000100080000000400500005008680"
        + "0100010000000000000000000000000057341200010300000000000000000000000000000000000000000000000000000000"
        + "0000000000000000000000000000000000000000000007001000010000000200000000000000";

    /// <summary>The ranges behind the processors', of one node of 256 MiB, 4 GiB with all that may come.</summary>
    const string Ranges =
        "0128000000000000000000000000000000000a00000000000000000001000000000000000000000001280000000000000000"
        + "1000000000000000f00f0000000000000000010000000000000000000000012800000000000000000000010000000000fe0f"
        + "000000000000000005000000000000000000000001280000000000000000fe0f01000000000000040000000000000000"
        + "05000000000000000000000001280000000000000000000001000000000000f001000000000000000300000000000000"
        + "00000000";

    readonly TestMachine _pc = new(c => c with
    {
        MachineOptions = Options.Parse("nvdimm=on,nvdimm-persistence=mem-ctrl", "-machine"),
        Memory = new MemoryConfig(256 * MiB, 4096 * MiB, Slots: 4),
        Numa = new NumaConfig { Nodes = [new(256 * MiB)], CpuNodes = [0] },
        Devices =
        [
            new DeviceConfig("nvdimm", "nvdimm0", [new("memdev", "labelled"), new("label-size", "128K")], "-device"),
            new DeviceConfig("nvdimm", "nvdimm1", [new("memdev", "plain"), new("unarmed", "on")], "-device"),
        ],
    }, [Nvdimm.Model], new MachineBackends
    {
        Objects = { ["labelled"] = Memory("labelled", 256 * MiB), ["plain"] = Memory("plain", 64 * MiB) },
    });

    public void Dispose() => _pc.Dispose();

    /// <summary>Of pages of 4 KiB, as files have them.</summary>
    static MemoryBackend Memory(string name, ulong size)
    {
        MemoryFile file = MemoryFile.Create(name, isShared: true);
        file.SetLength(size);
        return new MemoryBackend(new GuestRam(name, size, file));
    }

    byte[] Table(string signature)
    {
        ReadOnlySpan<byte> tables = _pc.Board.FirmwareConfiguration.Files[AcpiTables.TablesFile].Span;
        tables = tables[tables.IndexOf(System.Text.Encoding.ASCII.GetBytes(signature))..];
        return tables[..(int)BinaryPrimitives.ReadUInt32LittleEndian(tables[sizeof(int)..])].ToArray();
    }

    [Fact]
    public void The_NFIT_has_a_range_a_mapping_and_a_control_region_of_each() =>
        Assert.Equal(Nfit, Convert.ToHexStringLower(Table("NFIT").AsSpan(HeaderSize)));

    [Fact]
    public void The_SRAT_tells_their_nodes() =>
        Assert.EndsWith(Ranges, Convert.ToHexStringLower(Table("SRAT")), StringComparison.Ordinal);

    [IaslFact]
    public void The_name_space_has_a_root_and_devices_with_their_methods()
    {
        string directory = Directory.CreateTempSubdirectory().FullName;
        try
        {
            string source = AcpiTablesTests.Disassemble(Table("SSDT"), directory);
            foreach (string part in (string[])["Device (NVDR)", "\"ACPI0012\"", "Device (NV00)", "Name (_ADR, One)",
                "Device (NV01)", "Name (_ADR, 0x02)", "2f10e7a4-9e91-11e4-89d3-123b93f75cba",
                "4309ac30-0d11-11e4-9191-0800200c9a66"])
                Assert.Contains(part, source, StringComparison.Ordinal);
        }
        finally { Directory.Delete(directory, recursive: true); }
    }

    /// <summary>As the AML does: handle, revision, function and argument in the page, its address to the
    /// port.</summary>
    /// <returns>What _DSM returns.</returns>
    byte[] Call(uint handle, uint function, byte[]? argument = null, uint revision = 1)
    {
        ReadOnlySpan<uint> head = [handle, revision, function];
        for (int i = 0; i < head.Length; i++) _pc.Board.Memory.Write(Page + (ulong)i * 4, 4, head[i]);
        for (int i = 0; i < argument?.Length; i++)
            _pc.Board.Memory.Write(Page + Arguments + (ulong)i, 1, argument[i]);
        _pc.Board.Ports.Write(Port, 4, Page);
        byte[] result = new byte[(int)_pc.Board.Memory.Read(Page, 4) - Result];
        for (int i = 0; i < result.Length; i++)
            result[i] = (byte)_pc.Board.Memory.Read(Page + Result + (ulong)i, 1);
        return result;
    }

    static byte[] Words(params uint[] words) => [.. words.SelectMany(BitConverter.GetBytes)];

    [Fact]
    public void Functions_are_told_and_others_refused()
    {
        Assert.Equal(Words(0), Call(0, 0));
        Assert.Equal(Words(1), Call(0, 1));
        Assert.Equal(Words(0x71), Call(First, 0));                 // itself, 4, 5 and 6
        Assert.Equal(Words(0), Call(Second, 0));
        Assert.Equal(Words(1), Call(First, 7));
        Assert.Equal(Words(1), Call(Second, 4));
        Assert.Equal(Words(2), Call(9, 4));
        Assert.Equal(Words(1), Call(First, 0, revision: 2));
    }

    [Fact]
    public void Labels_are_the_end_of_the_memory()
    {
        GuestRam memory = _pc.Board.MemoryDevices[0].Memory.Ram;
        byte[] labels = [1, 2, 3, 4, 5];
        byte[] size = Call(First, 4);
        Assert.Equal((0u, (uint)LabelSize), (BitConverter.ToUInt32(size), BitConverter.ToUInt32(size, 4)));
        Assert.InRange(BitConverter.ToUInt32(size, 8), 1024u, 4096u);        // at once
        Assert.Equal(Words(0), Call(First, 6, [.. Words((uint)LabelSize - 5, 5), .. labels]));
        Assert.Equal(labels, memory.Span(memory.Size - 5, 5));
        Assert.Equal([.. Words(0), .. labels], Call(First, 5, Words((uint)LabelSize - 5, 5)));
        Assert.Equal([.. Words(0), 0], Call(First, 5, Words(0, 1)));
    }

    [Theory]
    [InlineData((uint)LabelSize, 1)] [InlineData((uint)LabelSize - 4, 5)] [InlineData(0, 4096)]
    [InlineData(uint.MaxValue, 1)] [InlineData(0, uint.MaxValue)] [InlineData(uint.MaxValue, uint.MaxValue)]
    public void What_is_no_part_of_labels_is_neither_read_nor_written(uint offset, uint length)
    {
        Assert.Equal(Words(3), Call(First, 5, Words(offset, length)));
        Assert.Equal(Words(3), Call(First, 6, [.. Words(offset, length), 1, 1, 1, 1, 1]));
        GuestRam memory = _pc.Board.MemoryDevices[0].Memory.Ram;
        Assert.Equal(-1, memory.Span(memory.Size - LabelSize, (int)LabelSize).IndexOfAnyExcept((byte)0));
    }

    [Theory]
    [InlineData(0xFFFF_F000u)] [InlineData(0xFFFF_FFFFu)]
    public void A_page_that_is_none_is_not_touched(uint page)
    {
        _pc.Board.Ports.Write(Port, 4, page);
        _pc.Board.Ports.Write(Port, 1, 0);
        Assert.Equal(Words(0x71), Call(First, 0));
    }

    [Fact]
    public void They_stay() => Assert.Equal("nvdimm device hot unplug is not supported yet.",
        _pc.Board.MemoryDevices[0].WhyKept);
}
