using System.Buffers.Binary;
using System.Text;
using Qkvm.Core.Devices;
using Qkvm.Core.Machine;
using Qkvm.Core.Memory;
using Qkvm.Host;
using Qkvm.Machines.Firmware;

namespace Qkvm.Machines.Tests.Firmware;

public sealed class FwCfgTests : IDisposable
{
    const uint Error = 1, Read = 2, Skip = 4, Select = 8, Write = 16;
    const ulong Structure = 0x1000, Target = 0x2000;

    readonly GuestRam _ram = new("ram", 0x10000);
    readonly AddressSpace _memory, _ports;
    readonly FwCfg _fwCfg;

    public FwCfgTests()
    {
        _memory = new AddressSpace("memory", MemoryRegion.Container("memory", 1UL << 40), new MachineLock());
        _memory.Map(0, MemoryRegion.OfRam("ram", _ram, 0, _ram.Size));
        _ports = new AddressSpace("ports", MemoryRegion.Container("ports", 0x10000), new MachineLock());
        _fwCfg = new FwCfg(_memory, _ports);
        _fwCfg.Add(0x8123, new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 });
    }

    public void Dispose() => _ram.Dispose();

    [Fact]
    public void The_signature_and_the_id_say_that_DMA_is_there()
    {
        Assert.Equal("QEMU", Encoding.ASCII.GetString(ReadItem(FwCfgKey.Signature, 4)));
        Assert.Equal([3, 0, 0, 0], ReadItem(FwCfgKey.Id, 4));
        Assert.Equal(0x4746_4320_554D_4551u, _ports.Read(0x514, 8));   // "QEMU CFG" as bytes
        Assert.Equal((byte)'C', (byte)_ports.Read(0x519, 1));
    }

    [Fact]
    public void Bytes_beyond_an_item_and_of_an_unknown_key_are_zero()
    {
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 0, 0], ReadItem(0x8123, 10));
        Assert.Equal([0, 0], ReadItem(0x7ABC, 2));
    }

    [Fact]
    public void The_directory_lists_the_files_by_name_with_keys_in_that_order()
    {
        _fwCfg.AddFile("zeta", new byte[] { 9 });
        _fwCfg.AddFile("alpha/beta", new byte[] { 1, 2, 3 });
        byte[] directory = ReadItem(FwCfgKey.FileDirectory, 4 + 2 * 64);
        Assert.Equal(2u, BinaryPrimitives.ReadUInt32BigEndian(directory));
        Assert.Equal(("alpha/beta", 3u, 0x20), Entry(directory, 0));
        Assert.Equal(("zeta", 1u, 0x21), Entry(directory, 1));
        Assert.Equal([1, 2, 3], ReadItem(0x20, 3));
        Assert.Equal([9], ReadItem(0x21, 1));
    }

    [Fact]
    public void DMA_writes_a_file_that_takes_it_as_a_whole()
    {
        byte[] file = new byte[8];
        bool takes = true;
        _fwCfg.AddWritableFile("a", file, () => takes);
        _fwCfg.AddFile("b", new byte[8]);
        _memory.Write(Target, 8, 0x0807060504030201);
        Assert.Equal(0u, Dma(Select | Write | 0x20u << 16, 8, Target));
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], file);
        Assert.Equal(Error, Dma(Write, 1, Target));           // behind its end
        Assert.Equal(Error, Dma(Select | Write | 0x20u << 16, 9, Target));
        Assert.Equal(Error, Dma(Select | Write | 0x20u << 16, uint.MaxValue, Target));
        Assert.Equal(Error, Dma(Select | Write | 0x20u << 16, 8, 1UL << 39));
        Assert.Equal(Error, Dma(Select | Write | 0x21u << 16, 8, Target));
        takes = false;
        Assert.Equal(Error, Dma(Select | Write | 0x20u << 16, 8, Target));
    }

    [Fact]
    public void DMA_selects_reads_skips_and_pads_with_zeros()
    {
        Assert.Equal(0u, Dma(Select | Read | 0x8123u << 16, 3, Target));
        Assert.Equal([1, 2, 3], Memory(Target, 3));
        Assert.Equal(0u, Dma(Skip, 2, 0));
        _ram.Span(Target, 8).Fill(0xEE);
        Assert.Equal(0u, Dma(Read, 6, Target));
        Assert.Equal([6, 7, 8, 0, 0, 0, 0xEE, 0xEE], Memory(Target, 8));
    }

    [Fact]
    public void The_high_half_of_the_structure_s_address_counts()
    {
        WriteStructure(Select | Read | 0x8123u << 16, 1, Target);
        _ports.Write(0x514, 4, BinaryPrimitives.ReverseEndianness(1u));
        _ports.Write(0x518, 4, BinaryPrimitives.ReverseEndianness((uint)Structure));
        Assert.NotEqual(0u, _memory.Read(Structure, 4));           // nothing at 4 GiB: the one below is not touched
        _ports.Write(0x518, 4, BinaryPrimitives.ReverseEndianness((uint)Structure));
        Assert.Equal(0u, _memory.Read(Structure, 4));              // the high half was consumed
    }

    [Theory]
    [InlineData(Read, 0x8000_0000u, 0xFFFF_F000ul)]
    [InlineData(Write, 4u, Target)]
    public void A_transfer_that_cannot_be_ends_in_error(uint operation, uint length, ulong address) =>
        Assert.Equal(Error, Dma(Select | operation | 0x8123u << 16, length, address));

    [Theory]
    [InlineData("")] [InlineData("nümber")] [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public void A_file_name_that_does_not_fit_is_refused(string name) =>
        Assert.Contains("-fw_cfg", Assert.Throws<ConfigurationException>(() => _fwCfg.AddFile(name, default)).Message);

    static (string, uint, int) Entry(byte[] directory, int index)
    {
        Span<byte> entry = directory.AsSpan(4 + index * 64, 64);
        return (Encoding.ASCII.GetString(entry[8..]).TrimEnd('\0'), BinaryPrimitives.ReadUInt32BigEndian(entry),
            BinaryPrimitives.ReadUInt16BigEndian(entry[4..]));
    }

    byte[] ReadItem(ushort key, int length)
    {
        _ports.Write(0x510, 2, key);
        return [.. Enumerable.Range(0, length).Select(_ => (byte)_ports.Read(0x511, 1))];
    }

    uint Dma(uint control, uint length, ulong address)
    {
        WriteStructure(control, length, address);
        _ports.Write(0x514, 8, BinaryPrimitives.ReverseEndianness(Structure));
        return BinaryPrimitives.ReverseEndianness((uint)_memory.Read(Structure, 4));
    }

    void WriteStructure(uint control, uint length, ulong address)
    {
        _memory.Write(Structure, 4, BinaryPrimitives.ReverseEndianness(control));
        _memory.Write(Structure + 4, 4, BinaryPrimitives.ReverseEndianness(length));
        _memory.Write(Structure + 8, 8, BinaryPrimitives.ReverseEndianness(address));
    }

    byte[] Memory(ulong address, int length)
    {
        byte[] data = new byte[length];
        _memory.Read(address, data);
        return data;
    }
}
