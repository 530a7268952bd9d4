using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Storage;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Scsi;

/// <summary>SPC-4, SBC-3 and MMC-6, whose numbers are restated here.</summary>
public sealed class ScsiUnitTests
{
    const int DiskSize = 1 << 20;

    readonly Pump _pump = new();
    readonly MemoryDisk _medium = new(DiskSize);
    readonly BlockBackend _backend;
    readonly ScsiOptions _options = new() { Serial = "S1", Wwn = 0x5000C50015EA71AC, IsQueued = true,
        DiscardGranularity = 4096, MaxUnmap = 1 << 30, MaxIo = int.MaxValue };

    public ScsiUnitTests()
    {
        _backend = new BlockBackend("disk", _pump.Post);
        _backend.Insert(_medium);
    }

    ScsiDisk Disk => field ??= new ScsiDisk(_backend, _options);
    ScsiCd Cd => field ??= new ScsiCd(_backend, _options with { IsRemovable = true, BlockSize = 2048 });

    static byte[] Ask(ScsiUnit unit, string cdb, int lun = 0)
    {
        ScsiCommand command = unit.Begin(Bytes(cdb), lun);
        Assert.Equal((ScsiAction.Answer, ScsiStatus.Good), (command.Action, command.Status));
        ReadOnlySpan<byte> answer = unit.Answer(out ScsiStatus status);
        Assert.Equal(ScsiStatus.Good, status);
        return answer[..(int)Math.Min(answer.Length, command.Length)].ToArray();
    }

    static (byte, ushort) Refusal(ScsiUnit unit, string cdb, int lun = 0)
    {
        ScsiCommand command = unit.Begin(Bytes(cdb), lun);
        ScsiStatus status = command.Status;
        if (command.Action == ScsiAction.Answer) unit.Answer(out status);
        Assert.Equal(ScsiStatus.CheckCondition, status);
        ScsiSense sense = unit.TakeSense();
        return (sense.Key, sense.Code);
    }

    static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", ""));

    /// <summary>A command with parameters, to its end.</summary>
    ScsiStatus Obey(ScsiUnit unit, string cdb, byte[] parameters)
    {
        Assert.Equal(ScsiAction.Parameters, unit.Begin(Bytes(cdb), 0).Action);
        int? ended = null;
        var work = new MediumWork(errno => ended = errno);
        ScsiStatus status = unit.Obey(parameters, work);
        if (work.IsEmpty) return status;
        work.Start(unit.Backend);
        _pump.Until(() => ended != null);
        return unit.Finish(default, ended!.Value);
    }

    [Theory]
    [InlineData("12 00 00 00 24 00",
        "00 00 05 12 1F 00 00 12 51 45 4D 55 20 20 20 20 51 45 4D 55 20 48 41 52 44 44 49 53 4B")]
    [InlineData("12 01 00 00 FF 00", "00 00 00 06 00 80 83 B0 B1 B2")]
    [InlineData("12 01 80 00 FF 00", "00 80 00 02 53 31")]
    [InlineData("12 01 83 00 FF 00", "00 83 00 12 02 00 00 02 53 31 01 03 00 08 50 00 C5 00 15 EA 71 AC")]
    [InlineData("12 01 B0 00 20 00",
        "00 B0 00 3C 01 00 00 00 00 3F FF FF 00 00 00 00 00 00 00 00 00 20 00 00 00 00 00 FF 00 00 00 08")]
    [InlineData("12 01 B2 00 FF 00", "00 B2 00 04 00 E0 02 00")]
    [InlineData("25 00 00 00 00 00 00 00 00 00", "00 00 07 FF 00 00 02 00")]
    [InlineData("9E 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", "00 00 00 00 00 00 07 FF 00 00 02 00 00 00 80 00")]
    [InlineData("A0 00 00 00 00 00 00 00 01 00 00 00", "00 00 00 08 00 00 00 00 00 00 00 00 00 00 00 00")]
    [InlineData("1A 08 08 00 FF 00", "17 00 00 00 08 12 04")]
    [InlineData("1A 08 04 00 FF 00", "1B 00 00 00 04 16 00 00 02 10 00 00 02 00 00 02 00 C8 FF FF FF")]
    [InlineData("1A 08 05 00 FF 00", "23 00 00 00 05 1E 13 88 10 3F 02 00 00 02 00 02 00 02 00 01 01 00 01 01 01 00 00 "
        + "00 00 00 00 00 15 18 00 00")]
    [InlineData("1A 08 45 00 FF 00", "23 00 00 00 05 1E 00 00 00 00 00 00 00")]
    [InlineData("25 00 00 00 00 01 00 00 01 00", "00 00 07 FF 00 00 02 00")]
    public void What_a_disk_says_of_itself(string cdb, string begins)
    {
        byte[] expected = Bytes(begins), answer = Ask(Disk, cdb);
        Assert.Equal(expected, answer[..Math.Min(answer.Length, expected.Length)]);
    }

    [Theory]
    [InlineData("28 00 00 00 08 00 00 00 01 00", 5, 0x2100)]        // one block past the end
    [InlineData("88 00 FF FF FF FF FF FF FF FF FF FF FF FF 00 00", 5, 0x2100)]
    [InlineData("C1 00 00 00 00 00 00 00 00 00", 5, 0x2000)]
    [InlineData("12 01 55 00 FF 00", 5, 0x2400)]
    [InlineData("12 00 01 00 FF 00", 5, 0x2400)]
    [InlineData("1A 00 3D 00 FF 00", 5, 0x2400)]
    [InlineData("1A 00 C8 00 FF 00", 5, 0x3900)]                    // saved values
    [InlineData("41 00 00 00 00 00 00 00 00 00", 5, 0x2400)]        // WRITE SAME of nothing
    [InlineData("2F 02 00 00 00 00 00 00 01 00", 5, 0x2400)]        // VERIFY that compares
    [InlineData("A0 00 00 00 00 00 00 00 00 08 00 00", 5, 0x2400)]
    [InlineData("5E 00 00 00 00 00 00 00 08 00", 5, 0x2000)]        // persistent reservations
    [InlineData("5F 00 00 00 00 00 00 00 18 00", 5, 0x2000)]
    [InlineData("16 01 00 00 00 00", 5, 0x2400)]                    // RESERVE for a third party
    [InlineData("17 01 00 00 00 00", 5, 0x2400)]
    [InlineData("56 02 00 00 00 00 00 00 00 00", 5, 0x2400)]        // or with a long identifier
    [InlineData("57 01 00 00 00 00 00 00 00 00", 5, 0x2400)]
    [InlineData("28 20 00 00 00 00 00 00 01 00", 5, 0x2400)]        // protection information
    [InlineData("2A 20 00 00 00 00 00 00 01 00", 5, 0x2400)]
    [InlineData("2E 20 00 00 00 00 00 00 01 00", 5, 0x2400)]
    [InlineData("88 E0 00 00 00 00 00 00 00 00 00 00 00 01 00 00", 5, 0x2400)]
    [InlineData("2F 04 00 00 00 00 00 00 01 00", 5, 0x2400)]
    [InlineData("2B 00 00 00 08 00 00 00 00 00", 5, 0x2100)]        // SEEK past the end
    [InlineData("25 00 00 00 00 01 00 00 00 00", 5, 0x2400)]        // READ CAPACITY from a block on
    [InlineData("42 01 00 00 00 00 00 00 18 00", 5, 0x2400)]        // UNMAP that anchors
    [InlineData("04 10 00 00 00 00", 7, 0x2700, true)]
    public void What_a_disk_refuses(string cdb, byte key, int code, bool isReadOnly = false)
    {
        _backend.IsReadOnly = isReadOnly;
        Assert.False(Disk.TryMove(Bytes(cdb), out _));
        Assert.Equal((key, (ushort)code), Refusal(Disk, cdb));
    }

    [Theory]
    [InlineData("16 00 00 00 00 00")] [InlineData("17 00 00 00 00 00")]
    [InlineData("56 00 00 00 00 00 00 00 00 00")] [InlineData("57 00 00 00 00 00 00 00 00 00")]
    [InlineData("2B 00 00 00 07 FF 00 00 00 00")]
    [InlineData("04 00 00 00 00 00")]
    public void What_changes_nothing_succeeds(string cdb)
    {
        ScsiCommand command = Disk.Begin(Bytes(cdb), 0);
        Assert.Equal((ScsiAction.None, ScsiStatus.Good), (command.Action, command.Status));
    }

    [Fact]
    public void WRITE_AND_VERIFY_writes_whatever_it_says_of_comparing()
    {
        foreach (string check in (string[])["00", "02", "06"])
            Assert.Equal(ScsiAction.Write, Disk.Begin(Bytes($"2E {check} 00 00 00 03 00 00 01 00"), 0).Action);
        Assert.Equal(ScsiStatus.Good, Obey(Disk, "04 10 00 00 00 00", new byte[4]));
    }

    [Theory]
    [InlineData("08 12 04", 18, true)]
    [InlineData("08 12 05", 18, false)]                             // RCD cannot be set
    [InlineData("08 10 04", 16, false)]                             // another length
    [InlineData("01 0A 80", 10, true)]
    [InlineData("01 0A 00", 10, false)]
    [InlineData("05 1E 13 88 10 3F 02 00 00 02 00 02 00 02 00 01 01 00 01 01 01 00 00 00 00 00 00 00 15 18", 30, true)]
    [InlineData("05 1E 13 88 10 3F 02 00 00 03", 30, false)]
    [InlineData("48 12 04", 18, false)]                             // a subpage
    [InlineData("3F 12 04", 18, false)]
    [InlineData("0A 0A 02", 10, false)]
    public void MODE_SELECT_takes_pages_as_they_are_but_for_what_changes(string page, int length, bool isTaken)
    {
        byte[] list = new byte[4 + 2 + length];
        Bytes(page).CopyTo(list, 4);
        Assert.Equal(isTaken ? ScsiStatus.Good : ScsiStatus.CheckCondition, Obey(Disk, $"15 10 00 00 {list.Length:X2} "
            + "00", list));
        if (!isTaken) Assert.Equal(new ScsiSense(5, 0x2600), Disk.TakeSense());
    }

    [Fact]
    public void The_first_command_after_a_reset_hears_of_it_and_INQUIRY_does_not_take_that_away()
    {
        Disk.Reset();
        Ask(Disk, "12 00 00 00 24 00");
        Assert.False(Disk.TryMove(Bytes("28 00 00 00 00 00 00 00 01 00"), out _));
        Assert.Equal((6, 0x2900), Refusal(Disk, "00 00 00 00 00 00"));
        Assert.Equal(ScsiStatus.Good, Disk.Begin(Bytes("00 00 00 00 00 00"), 0).Status);
        Assert.True(Disk.TryMove(Bytes("28 00 00 00 00 03 00 00 02 00"), out ScsiCommand command));
        Assert.Equal((ScsiAction.Read, 1536L, 1024L), (command.Action, command.Offset, command.Length));
    }

    [Fact]
    public void A_unit_that_is_not_there_says_so()
    {
        Disk.Units = () => [0, 3, 300];
        Assert.Equal(0x7F, Ask(Disk, "12 00 00 00 24 00", lun: 5)[0]);
        Assert.Equal((5, 0x2500), Refusal(Disk, "28 00 00 00 00 00 00 00 01 00", lun: 5));
        Assert.Equal(Bytes("00 00 00 18 00 00 00 00" + "00 00 00 00 00 00 00 00" + "00 03 00 00 00 00 00 00"
            + "41 2C 00 00 00 00 00 00"), Ask(Disk, "A0 00 00 00 00 00 00 00 01 00 00 00", lun: 5));
    }

    [Fact]
    public void WRITE_SAME_fills_with_zeros_or_a_block()
    {
        Random.Shared.NextBytes(_medium.Bytes);
        byte[] before = [.. _medium.Bytes];
        Assert.Equal(ScsiStatus.Good, Obey(Disk, "93 08 00 00 00 00 00 00 00 08 00 00 00 10 00 00", new byte[512]));
        Assert.Equal(["unmap 4096+8192"], _medium.Log);
        byte[] block = [.. Enumerable.Range(0, 512).Select(i => (byte)(i * 7 + 1))];
        Assert.Equal(ScsiStatus.Good, Obey(Disk, "41 00 00 00 00 40 00 04 00 00", block));
        for (int i = 64; i < 64 + 1024; i++) Assert.Equal(block, _medium.Bytes[(i * 512)..((i + 1) * 512)]);
        Assert.Equal(before[..4096], _medium.Bytes[..4096]);
        Assert.Equal(before[((64 + 1024) * 512)..], _medium.Bytes[((64 + 1024) * 512)..]);
    }

    [Fact]
    public void UNMAP_forgets_all_its_ranges_or_none()
    {
        byte[] list = new byte[8 + 2 * 16];
        BinaryPrimitives.WriteUInt16BigEndian(list.AsSpan(2), 32);
        BinaryPrimitives.WriteUInt64BigEndian(list.AsSpan(8), 8);
        BinaryPrimitives.WriteUInt32BigEndian(list.AsSpan(16), 8);
        BinaryPrimitives.WriteUInt64BigEndian(list.AsSpan(24), 0x800);
        BinaryPrimitives.WriteUInt32BigEndian(list.AsSpan(32), 1);
        Assert.Equal(ScsiStatus.CheckCondition, Obey(Disk, "42 00 00 00 00 00 00 00 28 00", list));
        Assert.Equal((byte)5, Disk.TakeSense().Key);
        Assert.Empty(_medium.Log);
        BinaryPrimitives.WriteUInt64BigEndian(list.AsSpan(24), 0x7FF);
        Assert.Equal(ScsiStatus.Good, Obey(Disk, "42 00 00 00 00 00 00 00 28 00", list));
        Assert.Equal(["discard 1048064+512", "discard 4096+4096"], _medium.Log);
    }

    [Fact]
    public void MODE_SELECT_switches_the_write_cache()
    {
        Assert.Equal(ScsiStatus.Good, Obey(Disk, "15 10 00 00 18 00", [0, 0, 0, 0, 8, 18, .. new byte[18]]));
        Assert.False(_backend.WriteCache);
        Assert.Equal(0, Ask(Disk, "1A 08 08 00 FF 00")[6]);
    }

    [Fact]
    public void A_resized_disk_and_a_changed_disc_are_told_once()
    {
        ScsiCd cd = Cd;
        Disk.Begin(Bytes("00 00 00 00 00 00"), 0);
        _backend.TellLength();
        Assert.Equal((6, 0x2A09), Refusal(Disk, "25 00 00 00 00 00 00 00 00 00"));
        Assert.Equal((6, 0x2800), Refusal(cd, "00 00 00 00 00 00"));
        Assert.Equal(ScsiStatus.Good, cd.Begin(Bytes("00 00 00 00 00 00"), 0).Status);
        Assert.Equal(2, Ask(cd, "4A 01 00 00 10 00 00 00 08 00")[4]);   // a new medium
    }

    [Fact]
    public void A_tray_that_the_guest_holds_shut_opens_when_it_lets_go()
    {
        var moves = new List<bool>();
        Cd.TrayMoved = moves.Add;
        Cd.Begin(Bytes("1E 00 00 00 01 00"), 0);
        Assert.True(Cd.IsLocked);
        Assert.Equal((5, 0x5302), Refusal(Cd, "1B 00 00 00 02 00"));
        Cd.Begin(Bytes("1E 00 00 00 00 00"), 0);
        Assert.Equal(ScsiStatus.Good, Cd.Begin(Bytes("1B 00 00 00 02 00"), 0).Status);
        Assert.Equal((2, 0x3A00), Refusal(Cd, "28 00 00 00 00 00 00 00 01 00"));
        Assert.False(Cd.TryMove(Bytes("28 00 00 00 00 00 00 00 01 00"), out _));
        Cd.Begin(Bytes("1B 00 00 00 03 00"), 0);
        Assert.Equal([true, false], moves);
        Assert.Equal((6, 0x2800), Refusal(Cd, "00 00 00 00 00 00"));
    }

    [Theory]
    [InlineData("12 00 00 00 24 00", "05 80 05 12")]
    [InlineData("12 01 00 00 FF 00", "05 00 00 03 00 80 83")]
    [InlineData("43 00 00 00 00 00 00 00 40 00", "00 12 01 01 00 14 01 00 00 00 00 00 00 14 AA 00 00 00 02 00")]
    [InlineData("46 02 00 01 00 00 00 00 40 00", "00 00 00 10 00 00 00 08 00 01 0B 08 00 00 00 01")]
    [InlineData("25 00 00 00 00 00 00 00 00 00", "00 00 01 FF 00 00 08 00")]
    public void What_a_drive_says_of_itself_and_its_disc(string cdb, string begins)
    {
        byte[] expected = Bytes(begins);
        Assert.Equal(expected, Ask(Cd, cdb)[..expected.Length]);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it()
    {
        var name = new ScsiDevice("scsi-cd", Cd, isRemovable: true);
        var other = new ScsiDevice("scsi-cd", new ScsiCd(_backend, _options with { IsRemovable = true }), true);
        name.Reset();
        other.Reset();
        string fresh = StateNode.Save(name.Exchange).ToString();
        Cd.MoveTray(open: true);
        Refusal(Cd, "C0 00 00 00 00 00");
        StateNode.Save(name.Exchange).Load(other.Exchange);
        Assert.Equal(StateNode.Save(name.Exchange).ToString(), StateNode.Save(other.Exchange).ToString());
        Assert.NotEqual(fresh, StateNode.Save(name.Exchange).ToString());
        name.Reset();
        Assert.Equal(fresh, StateNode.Save(name.Exchange).ToString());
    }
}
