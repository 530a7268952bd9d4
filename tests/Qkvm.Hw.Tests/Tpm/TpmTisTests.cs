using Qkvm.Core.Tpm;
using Qkvm.Hw.Tpm;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Tpm;

/// <summary>The FIFO interface as a driver sees it: TIS 1.3, chapters 5 and 6, restated.</summary>
public class TpmTisTests
{
    const int Access = 0, IntEnable = 8, IntVector = 0xC, IntStatus = 0x10, Capability = 0x14, Sts = 0x18, Fifo = 0x24,
        InterfaceId = 0x30, DidVid = 0xF00;
    const byte Active = 0x20, Request = 2, Seize = 8, BeenSeized = 0x10;
    const uint Ready = 0x40, Go = 0x20, DataAvail = 0x10, Expect = 8, Valid = 0x80;

    static readonly byte[] Command = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0],
        Answer = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 7];

    readonly FakeTpm _tpm = new();
    readonly FakeBoard _board;

    public TpmTisTests() : this(TpmVersion.V20) { }

    TpmTisTests(TpmVersion version)
    {
        _tpm = new FakeTpm(version);
        _board = new FakeBoard(new DeviceBench(new FakeClock())) { Tpm = _tpm };
        TpmTis.Model.Create(FakeBoard.Defaults(TpmTis.Model, ("tpmdev", "t")), _board.Site).Reset();
    }

    uint Read(int register, int size = 4, int locality = 0) =>
        (uint)_board.Memory.Read(0xFED40000 + (ulong)(locality << 12 | register), size);

    void Write(int register, uint value, int size = 4, int locality = 0) =>
        _board.Memory.Write(0xFED40000 + (ulong)(locality << 12 | register), size, value);

    uint Status => Read(Sts) & 0xFF;

    void Send(byte[] command)
    {
        Write(Access, Request, 1);
        Write(Sts, Ready);
        foreach (byte b in command) Write(Fifo, b, 1);
    }

    [Fact]
    public void A_command_goes_in_and_its_answer_comes_out()
    {
        Write(Access, Request, 1);
        Write(Sts, Ready);
        Assert.Equal(Valid | Ready, Status & ~4u);
        Assert.Equal(4096u, Read(Sts) >> 8 & 0xFFFF);
        for (int i = 0; i < Command.Length; i += 4)
        {
            Write(Fifo, BitConverter.ToUInt32(Command, i));
            Assert.Equal(i + 4 < Command.Length ? Valid | Expect : Valid, Status & ~4u);
        }
        Write(Sts, Go);
        Assert.Equal(0u, Status & (Valid | DataAvail));
        _tpm.Answer(Answer);
        Assert.Equal(Valid | DataAvail, Status & ~4u);
        Assert.Equal(10u, Read(Sts) >> 8 & 0xFFFF);
        var got = new List<byte>();
        while ((Status & DataAvail) != 0) got.Add((byte)Read(Fifo, 1));
        Assert.Equal(Answer, got);
        Assert.Equal(0xFFu, Read(Fifo, 1));
        Write(Sts, 2);                                             // responseRetry
        Assert.Equal(0x00000180u, Read(Fifo, 2) | Read(Fifo, 1) << 16);
        Assert.Equal(["start 4096", $"0: {Convert.ToHexString(Command)}"], _tpm.Heard);
    }

    [Theory]
    [InlineData("80010000000C00", false)]                          // cut
    [InlineData("8001FFFFFFFF00000144", false)]                    // longer than any buffer
    [InlineData("800100000000", true)]                             // shorter than its header: the backend judges
    public void Commands_that_lie_of_their_length_go_nowhere_or_end_where_they_say(string bytes, bool goes)
    {
        Send(Convert.FromHexString(bytes));
        for (int i = 0; i < 5000 && !goes; i++) if (bytes.StartsWith("8001FF")) Write(Fifo, 0, 1);
        Write(Sts, Go);
        Assert.Equal(goes ? 2 : 1, _tpm.Heard.Count);
    }

    [Fact]
    public void One_locality_is_active_and_others_wait_or_seize()
    {
        Write(Access, Request, 1);
        Assert.Equal(0xA1u, Read(Access, 1));
        Write(Access, Request, 1, 2);
        Write(Access, Request, 1, 1);
        Assert.Equal(0xA5u, Read(Access, 1));                      // somebody waits
        Assert.Equal(0x87u, Read(Access, 1, 1));
        Assert.Equal(uint.MaxValue, Read(Sts, 4, 1));
        Write(Access, Active, 1);
        Assert.Equal(0xA5u, Read(Access, 1, 2));                   // the highest one goes first
        Write(Access, Seize, 1);
        Assert.Equal(0xA5u, Read(Access, 1, 2));                   // a lower one cannot
        Write(Access, Seize, 1, 4);
        Assert.Equal(0xA5u, Read(Access, 1, 4));
        Assert.Equal(0x95u, Read(Access, 1, 2));
        Write(Access, BeenSeized, 1, 2);
        Assert.Equal(0x85u, Read(Access, 1, 2));
        Write(Access, Active, 1, 1);                               // takes its request back
        Write(Access, Active, 1, 4);
        Assert.Equal(0x81u, Read(Access, 1, 4));
    }

    [Fact]
    public void A_seized_command_is_cancelled_and_its_answer_is_nobodys()
    {
        Send(Command);
        Write(Sts, Go);
        Write(Access, Seize, 1, 1);
        Assert.Equal("cancel", _tpm.Heard[^1]);
        Write(Sts, Ready, 4, 1);
        _tpm.Answer(Answer);
        Assert.Equal(Valid | Ready, Read(Sts, 1, 1) & ~4u);
    }

    [Fact]
    public void Command_ready_gives_up_what_executes()
    {
        Send(Command);
        Write(Sts, Go);
        Write(Sts, Ready);
        Assert.Equal("cancel", _tpm.Heard[^1]);
        Assert.Equal(0u, Status & Ready);
        _tpm.Answer(Answer);
        Assert.Equal(Valid | Ready, Status & ~4u);
    }

    [Fact]
    public void Interrupts_come_where_they_are_enabled_and_go_when_all_are_acknowledged()
    {
        Write(Access, Request, 1);
        Write(IntEnable, 0x80000081);
        Assert.Equal(0x80000081, Read(IntEnable));
        Write(Sts, Ready);
        Assert.True(_board.Irqs[5].Level);
        Assert.Equal(0x80u, Read(IntStatus));
        foreach (byte b in Command) Write(Fifo, b, 1);
        Write(Sts, Go);
        _tpm.Answer(Answer);
        Assert.Equal(0x81u, Read(IntStatus));
        Write(IntStatus, 0x80);
        Assert.True(_board.Irqs[5].Level);
        Write(IntStatus, 1);
        Assert.False(_board.Irqs[5].Level);
        Assert.Equal(5u, Read(IntVector, 1));
    }

    [Theory]
    [InlineData(TpmVersion.V12, 0x20000697, 0xFFFFFFFF)]
    [InlineData(TpmVersion.V20, 0x30000697, 0x00002100)]
    public void What_it_is(TpmVersion version, uint capability, uint id)
    {
        var bench = new TpmTisTests(version);
        Assert.Equal(capability, bench.Read(Capability));
        Assert.Equal(id, bench.Read(InterfaceId));
        Assert.Equal(0x00011014u, bench.Read(DidVid));
        Assert.Equal(64 << 10, bench._board.FirmwareFiles["etc/tpm/log"]);
    }

    [Fact]
    public void The_bits_of_TPM_2_are_those_of_trusted_localities()
    {
        Write(Access, Request, 1, 2);
        Write(Sts, 1 << 25, 4, 2);
        Write(Access, Seize, 1, 3);
        Write(Sts, 1 << 25, 4, 3);
        Assert.Equal(["start 4096", "forget 3"], _tpm.Heard);
        _tpm.IsEstablished = true;
        Assert.Equal(0u, Read(Access, 1) & 1);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it() =>
        DeviceSuite.Check(bench => new TpmTis(new FakeTpm(), bench.Wire("irq"), 5), device =>
        {
            var tis = (TpmTis)device;
            tis.Write(Access, 1, Request);
            tis.Write(IntEnable, 1, 0x80);
            tis.Write(IntEnable + 3, 1, 0x80);
            tis.Write(Sts, 1, Ready);
            tis.Write(Fifo, 1, 0x80);
        });
}
