using System.Text;
using Qkvm.Hw.Storage;
using Qkvm.Testing;
using static Qkvm.Hw.Tests.Storage.IdeBench;

namespace Qkvm.Hw.Tests.Storage;

public sealed class AtapiDriveTests : IDisposable
{
    readonly IdeBench _ide = new();

    public AtapiDriveTests() => _ide.Packet(false, 0, 0x00);       // the unit attention of a new medium, if any

    public void Dispose() => _ide.Dispose();

    byte[] Disc(int sector, int count) => _ide.Disc.Bytes.AsSpan(sector * 2048, count * 2048).ToArray();

    (int Key, int Code) Sense()
    {
        _ide.Packet(false, 0xFFFE, 0x03, 0, 0, 0, 18);
        byte[] data = _ide.Reply();
        return (data[2], data[12]);
    }

    [Fact]
    public void The_signature_and_the_refusal_of_IDENTIFY_DEVICE_name_a_packet_device()
    {
        _ide.CdRom.Reset();
        Assert.Equal((1, 1, 0x14, 0xEB),
            (_ide.In(Secondary + 2), _ide.In(Secondary + 3), _ide.In(Secondary + 4), _ide.In(Secondary + 5)));
        _ide.Out(Secondary + 7, 0xEC);
        Assert.Equal(Err, _ide.WaitIrq(Secondary) & Err);
        Assert.Equal(0xEB, _ide.In(Secondary + 5));
        _ide.Out(Secondary + 7, 0xA1);
        _ide.WaitIrq(Secondary);
        byte[] data = _ide.ReadData(Secondary, 512);
        Assert.Equal(0x85C0, data[0] | data[1] << 8);
        for (int i = 54; i < 94; i += 2) (data[i], data[i + 1]) = (data[i + 1], data[i]);
        Assert.Equal("QEMU DVD-ROM", Encoding.ASCII.GetString(data, 54, 40).TrimEnd());
    }

    [Fact]
    public void Inquiry_names_the_drive()
    {
        _ide.Packet(false, 0xFFFE, 0x12, 0, 0, 0, 36);
        byte[] data = _ide.Reply();
        Assert.Equal(36, data.Length);
        Assert.Equal(5, data[0]);
        Assert.Equal("QEMU    QEMU DVD-ROM    2.5+", Encoding.ASCII.GetString(data, 8, 28));
    }

    [Theory]
    [InlineData(1, 0xFFFE)]
    [InlineData(3, 2048)]
    [InlineData(40, 0x8000)]
    [InlineData(2, 1000)]
    [InlineData(2, 1001)]
    public void Sectors_are_read_by_pio_in_blocks_of_the_limit(byte count, int limit)
    {
        _ide.Packet(false, limit, 0x28, 0, 0, 0, 0, 10, 0, 0, count);
        Assert.Equal(Disc(10, count), _ide.Reply());
        Assert.Equal(3, _ide.In(Secondary + 2));
        Assert.Equal(Drdy, _ide.In(Secondary + 7) & (Drdy | Err | Drq));
    }

    [Fact]
    public void Sectors_are_read_by_dma()
    {
        _ide.Regions((0x100000, 4096), (0x110000, 2048));
        _ide.Packet(true, 0, 0xA8, 0, 0, 0, 1, 0, 0, 0, 0, 3);
        _ide.StartDma(Secondary, toMemory: true);
        Assert.Equal(0, _ide.WaitIrq(Secondary) & Err);
        byte[] memory = [.. _ide.Bench.Memory.Bytes(0x100000, 4096), .. _ide.Bench.Memory.Bytes(0x110000, 2048)];
        Assert.Equal(Disc(256, 3), memory);
        Assert.Equal(4, _ide.MasterStatus(Secondary) & 7);
    }

    [Fact]
    public void Replies_go_by_dma_too()
    {
        _ide.Regions((0x100000, 36));
        _ide.Packet(true, 0, 0x12, 0, 0, 0, 36);
        _ide.StartDma(Secondary, toMemory: true);
        _ide.WaitIrq(Secondary);
        Assert.Equal("QEMU"u8.ToArray(), _ide.Bench.Memory.Bytes(0x100008, 4));
    }

    [Theory]
    [InlineData(0xFFFFFFFFu, 1)]
    [InlineData(600u, 1)]
    [InlineData(599u, 2)]
    [InlineData(0xFFFFFFFFu, 0xFFFF)]
    public void Sectors_beyond_the_end_are_out_of_range(uint sector, int count)
    {
        foreach (bool dma in (bool[])[false, true])
        {
            _ide.Packet(dma, 0xFFFE, 0x28, 0, (byte)(sector >> 24), (byte)(sector >> 16), (byte)(sector >> 8),
                (byte)sector, 0, (byte)(count >> 8), (byte)count);
            Assert.Equal(Err, _ide.WaitIrq(Secondary) & (Err | Drq));
            Assert.Equal(0x54, _ide.In(Secondary + 1));
            Assert.Equal((5, 0x21), Sense());
        }
        Assert.Empty(_ide.Disc.Log);
    }

    [Fact]
    public void Capacity_and_table_of_contents_describe_one_data_track()
    {
        _ide.Packet(false, 0xFFFE, 0x25);
        Assert.Equal([0, 0, 2, 0x57, 0, 0, 8, 0], _ide.Reply());
        _ide.Packet(false, 0xFFFE, 0x43, 0, 0, 0, 0, 0, 0, 0, 255);
        Assert.Equal([0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 2, 0x58], _ide.Reply());
        _ide.Packet(false, 0xFFFE, 0x43, 2, 0, 0, 0, 0, 0xAA, 0, 255);
        Assert.Equal([0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 10, 0], _ide.Reply());
        _ide.Packet(false, 0xFFFE, 0x43, 0, 0, 0, 0, 0, 0, 0, 4);
        Assert.Equal([0, 18, 1, 1], _ide.Reply());
    }

    [Fact]
    public void Modes_features_and_mechanism_are_told()
    {
        _ide.Packet(false, 0xFFFE, 0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 255);
        byte[] mode = _ide.Reply();
        Assert.Equal((28, 0x2A, 18), (mode.Length, mode[8], mode[9]));
        _ide.Packet(false, 0xFFFE, 0x46, 0, 0, 0, 0, 0, 0, 0, 255);
        byte[] features = _ide.Reply();
        Assert.Equal(features.Length - 4, features[3]);
        Assert.Equal(8, features[7]);
        _ide.Packet(false, 0xFFFE, 0xBD, 0, 0, 0, 0, 0, 0, 0, 8);
        Assert.Equal(8, _ide.Reply().Length);
        _ide.Packet(false, 0xFFFE, 0x51, 0, 0, 0, 0, 0, 0, 0, 34);
        Assert.Equal(34, _ide.Reply().Length);
    }

    /// <summary>MMC-3, "CD audio control mode page"; SPC-3, "MODE SENSE", page control.</summary>
    [Fact]
    public void The_audio_page_is_there_alone_and_among_all_and_nothing_is_changeable()
    {
        _ide.Packet(false, 0xFFFE, 0x5A, 0, 0x0E, 0, 0, 0, 0, 0, 255);
        byte[] mode = _ide.Reply();
        Assert.Equal([0x0E, 14, 4, 0, 0, 0, 0, 0, 1, 0xFF, 2, 0xFF, 0, 0, 0, 0], mode[8..]);
        _ide.Packet(false, 0xFFFE, 0x1A, 0, 0x0E, 0, 255);
        Assert.Equal(mode[8..], _ide.Reply()[4..]);
        _ide.Packet(false, 0xFFFE, 0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 255);
        mode = _ide.Reply();
        Assert.Equal((mode.Length - 2, 0x01, 0x0E, 0x2A), (mode[1], mode[8], mode[16], mode[32]));
        _ide.Packet(false, 0xFFFE, 0x5A, 0, 0x7F, 0, 0, 0, 0, 0, 255); // changeable values
        byte[] masks = _ide.Reply();
        Assert.Equal(mode.Length, masks.Length);
        foreach (int page in (int[])[8, 16, 32])
        {
            Assert.Equal(mode[page..(page + 2)], masks[page..(page + 2)]);
            Assert.All(masks[(page + 2)..(page + 2 + masks[page + 1])], b => Assert.Equal(0, b));
        }
    }

    [Theory]
    [InlineData(0xF8, 0, 2352)] [InlineData(0xB8, 0, 2352)] [InlineData(0x10, 16, 2048)] [InlineData(0x18, 16, 2336)]
    [InlineData(0x30, 12, 2052)]
    [InlineData(0x20, 12, 4)] [InlineData(0xA0, 0, 16)] [InlineData(0x80, 0, 12)] [InlineData(0x58, 16, 2336)]
    public void Raw_sectors_come_with_the_parts_that_are_wanted(int parts, int from, int length)
    {
        const int First = 75, Count = 130;                         // more than the buffer holds
        byte[] expected = [.. Enumerable.Range(First, Count).SelectMany(s => Raw(s)[from..(from + length)])];
        _ide.Packet(false, 2352, 0xBE, 0, 0, 0, 0, First, 0, 0, Count, (byte)parts);
        Assert.Equal(expected, _ide.Reply());
        _ide.Packet(false, 0xFFFE, 0xB9, 8, 0, 0, 3, 0, 0, 4, 55, (byte)parts); // 00:03:00 to 00:04:55, mode 1 expected
        Assert.Equal(expected, _ide.Reply());

        for (int at = 0; at < 10; at++) _ide.Memory.Write(0x200000 + (ulong)at * 0x8000, new byte[0x8000]);
        _ide.Regions([.. Enumerable.Range(0, (expected.Length + 0x7FFF) / 0x8000)
            .Select(i => (0x200000u + (uint)i * 0x8000, Math.Min(0x8000, (expected.Length - i * 0x8000 + 1) & ~1)))]);
        _ide.StartDma(Secondary, toMemory: true);
        _ide.Packet(true, 0, 0xBE, 0, 0, 0, 0, First, 0, 0, Count, (byte)parts);
        Assert.Equal(0, _ide.WaitIrq(Secondary) & Err);
        byte[] memory = new byte[expected.Length];
        _ide.Memory.Read(0x200000, memory);
        Assert.Equal(expected, memory);

        byte[] Raw(int sector)
        {
            byte[] raw = new byte[2352];
            int time = sector + 150;
            CdSector.Build(raw, Disc(sector, 1), ((byte)(time / 75 / 60), (byte)(time / 75 % 60), (byte)(time % 75)));
            return raw;
        }
    }

    [Theory]
    [InlineData(0, 0x90, 0, 0x24)] [InlineData(0, 0x08, 0, 0x24)] [InlineData(0, 0xFA, 0, 0x24)]
    [InlineData(0, 0xF8, 1, 0x24)] [InlineData(4, 0xF8, 0, 0x64)]
    [InlineData(12, 0xF8, 0, 0x64)]
    public void Raw_sectors_that_are_not_on_the_disc_are_refused(int type, int parts, int subChannel, int code)
    {
        _ide.Packet(false, 0xFFFE, 0xBE, (byte)type, 0, 0, 0, 0, 0, 0, 1, (byte)parts, (byte)subChannel);
        Assert.Equal(Err, _ide.WaitIrq(Secondary) & (Err | Drq));
        Assert.Equal((5, code), Sense());
    }

    [Fact]
    public void An_unknown_packet_is_an_illegal_request()
    {
        _ide.Packet(false, 0xFFFE, 0xFF);
        Assert.Equal(Err, _ide.In(Secondary + 7) & Err);
        Assert.Equal((5, 0x20), Sense());
        Assert.Equal((0, 0), Sense());
    }

    [Fact]
    public void A_changed_medium_is_reported_once_and_by_event()
    {
        _ide.DiscBackend.Insert(null);
        _ide.Packet(false, 0xFFFE, 0x00);
        Assert.Equal((2, 0x3A), Sense());
        _ide.DiscBackend.Insert(new MemoryDisk(2048 * 16));
        _ide.Packet(false, 0xFFFE, 0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8);
        byte[] notification = _ide.Reply();
        Assert.Equal((2, 2), (notification[4], notification[5]));
        _ide.Packet(false, 0xFFFE, 0x00);
        Assert.Equal((6, 0x28), Sense());
        _ide.Packet(false, 0xFFFE, 0x00);
        Assert.Equal(0, _ide.In(Secondary + 7) & Err);
    }

    [Fact]
    public void A_locked_tray_stays_closed_and_an_open_one_has_no_medium()
    {
        _ide.Packet(false, 0, 0x1E, 0, 0, 0, 1);
        _ide.Packet(false, 0, 0x1B, 0, 0, 0, 2);
        Assert.Equal((5, 0x53), Sense());
        _ide.Packet(false, 0, 0x1E, 0, 0, 0, 0);
        _ide.Packet(false, 0, 0x1B, 0, 0, 0, 2);
        Assert.True(_ide.CdRom.Disc.IsTrayOpen);
        _ide.Packet(false, 0xFFFE, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
        Assert.Equal((2, 0x3A), Sense());
        _ide.Packet(false, 0, 0x1B, 0, 0, 0, 3);
        Assert.False(_ide.CdRom.Disc.IsTrayOpen);
    }

    [Fact]
    public void A_failing_disc_is_a_medium_error()
    {
        _ide.Disc.FailWith = 5;
        _ide.Packet(false, 0xFFFE, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
        Assert.Equal((3, 0x11), Sense());
    }

    [Fact]
    public void Every_packet_code_with_wild_fields_ends()
    {
        var random = new Random(5);
        for (int code = 0; code < 256; code++)
        {
            var packet = new byte[12];
            random.NextBytes(packet);
            packet[0] = (byte)code;
            _ide.Packet(false, random.Next(0x10000), packet);
            _ide.CdRom.SoftReset();
            Assert.Equal(0, _ide.Peek(Secondary) & (Bsy | Drq));
        }
    }

    [Fact]
    public void Reset_makes_the_drive_new_and_a_reply_survives_saving()
    {
        _ide.Packet(false, 1000, 0x28, 0, 0, 0, 0, 10, 0, 0, 2);
        using var other = new IdeBench();
        StateAssert.SurvivesSaveAndLoad(_ide.CdRom, other.CdRom);
        StateAssert.SurvivesSaveAndLoad(_ide.Ide, other.Ide);
        Assert.Equal(Disc(10, 2), other.Reply());
        using var fresh = new IdeBench();
        fresh.CdRom.Reset();
        StateAssert.ResetEqualsNew(_ide.CdRom, fresh.CdRom);
    }
}
