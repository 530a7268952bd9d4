using Qkvm.Core.Configuration;
using Qkvm.Core.Tpm;
using Qkvm.Hw.Tpm;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Tpm;

/// <summary>The command response buffer as a driver sees it: PTP 1.05, section 6.5.3, restated.</summary>
public class TpmCrbTests
{
    const ulong Base = 0xFED40000;
    const int LocState = 0, LocCtrl = 8, LocSts = 0xC, IntfId = 0x30, Req = 0x40, Sts = 0x44, Cancel = 0x48,
        Start = 0x4C, CmdSize = 0x58, CmdLow = 0x5C, CmdHigh = 0x60, RspSize = 0x64, RspAddr = 0x68, Data = 0x80;

    static readonly byte[] Command = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0],
        Answer = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 7];

    readonly FakeTpm _tpm = new();
    readonly FakeBoard _board;

    public TpmCrbTests()
    {
        _board = new FakeBoard(new DeviceBench(new FakeClock())) { Tpm = _tpm };
        TpmCrb.Model.Create(FakeBoard.Defaults(TpmCrb.Model, ("tpmdev", "t")), _board.Site).Reset();
    }

    uint Read(int register, int size = 4) => (uint)_board.Memory.Read(Base + (ulong)register, size);
    void Write(int register, uint value) => _board.Memory.Write(Base + (ulong)register, 4, value);

    void Send(ReadOnlySpan<byte> command)
    {
        for (int i = 0; i < command.Length; i++) _board.Memory.Write(Base + Data + (ulong)i, 1, command[i]);
    }

    [Fact]
    public void A_command_lies_in_the_buffer_and_its_answer_replaces_it()
    {
        Assert.Equal(2u, Read(Sts));
        Write(LocCtrl, 1);
        Assert.Equal((1u, 0x83u), (Read(LocSts), Read(LocState)));
        Write(Req, 1);
        Assert.Equal((0u, 0u), (Read(Sts), Read(Req)));
        Send(Command);
        Write(Start, 1);
        Assert.Equal(1u, Read(Start));
        Write(Data, 0);                                            // it is the TPM's now
        Write(Start, 1);
        _tpm.Answer(Answer);
        Assert.Equal(0u, Read(Start));
        Assert.Equal(Answer, Enumerable.Range(0, 10).Select(i => (byte)Read(Data + i, 1)));
        Assert.Equal(["start 3968", $"0: {Convert.ToHexString(Command)}"], _tpm.Heard);
        Write(Req, 2);
        Assert.Equal(2u, Read(Sts));
    }

    [Fact]
    public void Nothing_starts_without_the_locality()
    {
        Send(Command);
        Write(Start, 1);
        Write(LocCtrl, 1);
        Write(LocCtrl, 2);
        Write(Start, 1);
        Assert.Equal(["start 3968"], _tpm.Heard);
    }

    [Fact]
    public void Cancelling_asks_the_TPM_and_the_driver_takes_it_back()
    {
        Write(LocCtrl, 1);
        Write(Cancel, 1);
        Send(Command);
        Write(Start, 1);
        Write(Cancel, 1);
        Assert.Equal(1u, Read(Cancel));
        Write(Cancel, 0);
        Assert.Equal(0u, Read(Cancel));
        Assert.Equal("cancel", Assert.Single(_tpm.Heard, heard => heard == "cancel"));
    }

    [Theory]
    [InlineData(uint.MaxValue, 3968)]
    [InlineData(0u, 0)]
    public void A_length_that_lies_is_bounded(uint length, int sent)
    {
        Write(LocCtrl, 1);
        Send([0x80, 1, (byte)(length >> 24), (byte)(length >> 16), (byte)(length >> 8), (byte)length]);
        Write(Start, 1);
        Assert.Equal(sent * 2, _tpm.Heard[^1].Length - "0: ".Length);
        _tpm.Answer(new byte[5000]);                               // and so is what comes back
        Assert.Equal(0u, Read(Start));
    }

    [Fact]
    public void An_answer_from_before_a_reset_is_lost()
    {
        var crb = new TpmCrb(_tpm);
        crb.Write(LocCtrl, 1, 1);
        crb.Write(Start, 1, 1);
        crb.Reset();
        _tpm.Answer(Answer);
        Assert.Equal(0UL, crb.Read(Data, 1));
    }

    [Fact]
    public void What_it_is()
    {
        Assert.Equal((1u, 1u, 1u), (Read(IntfId) & 15, Read(IntfId) >> 4 & 15, Read(IntfId) >> 17 & 3));
        Assert.Equal((3968u, 3968u), (Read(CmdSize), Read(RspSize)));
        Assert.Equal((0xFED40080u, 0u, 0xFED40080u), (Read(CmdLow), Read(CmdHigh), Read(RspAddr)));
        var board = new FakeBoard(new DeviceBench(new FakeClock())) { Tpm = new FakeTpm(TpmVersion.V12) };
        Assert.Contains("use tpm-tis", Assert.Throws<ConfigurationException>(() =>
            TpmCrb.Model.Create(FakeBoard.Defaults(TpmCrb.Model, ("tpmdev", "t")), board.Site)).Message);
    }

    [Fact]
    public void State_is_kept_and_reset_forgets_it() => DeviceSuite.Check(_ => new TpmCrb(new FakeTpm()), device =>
    {
        var crb = (TpmCrb)device;
        crb.Write(LocCtrl, 1, 1);
        crb.Write(Req, 1, 1);
        crb.Write(Data, 1, 0x80);
    });
}
