using Qkvm.Core.Irq;
using Qkvm.Core.State;
using Qkvm.Hw.Pci;
using Qkvm.Machines.Tests.Pc;
using Qkvm.Testing;

namespace Qkvm.Machines.Tests.Q35;

/// <summary>System management interrupts by the SMI command port: ICH9, order 316972, sections 13.7 and 13.8.3; PIIX4,
/// order 290562, section 7.1; and what firmware negotiates.</summary>
public sealed class SmiTests
{
    const ulong Command = 0xB2, SmiEnable = 0x630;
    const int PmConfiguration1 = 0xA0;
    const uint Global = 1, Apmc = 0x20;

    int _smis;

    ChipsetBench Chipset()
    {
        var bench = new ChipsetBench(smi: () => _smis++);
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, 0x40, 4, 0x601);
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, 0x44, 1, 0x80);
        return bench;
    }

    [Theory]
    [InlineData(0, 0)] [InlineData(Global, 0)] [InlineData(Apmc, 0)] [InlineData(Global | Apmc, 1)]
    public void A_command_interrupts_where_both_enables_are_set(uint enables, int expected)
    {
        ChipsetBench bench = Chipset();
        Assert.Equal(0u, bench.Ports.Read(SmiEnable, 4));
        bench.Ports.Write(SmiEnable, 4, enables);
        bench.Ports.Write(Command, 1, 0x55);
        Assert.Equal(expected, _smis);
        bench.Ports.Write(Command, 1, Ich9Pm.AcpiEnable);
        bench.Ports.Write(Command + 1, 1, 0x77);
        Assert.Equal(expected, _smis);
        Assert.Equal(0x77u, bench.Ports.Read(Command + 1, 1));
    }

    [Fact]
    public void The_lock_keeps_them_enabled_until_the_next_reset()
    {
        ChipsetBench bench = Chipset();
        bench.Ports.Write(SmiEnable, 4, Global | Apmc);
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, PmConfiguration1, 2, 0x10);
        bench.Ports.Write(SmiEnable, 4, 0);
        Assert.Equal(Global, bench.Ports.Read(SmiEnable, 4));
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, PmConfiguration1, 2, 0);
        Assert.Equal(0x10u, bench.Bus.ReadConfig(ChipsetBench.LpcDevFn, PmConfiguration1, 2));
        StateNode locked = StateNode.Save(bench.Lpc.Exchange);

        ChipsetBench fresh = Chipset();
        locked.Load(fresh.Lpc.Exchange);
        fresh.Ports.Write(SmiEnable, 4, 0);
        Assert.Equal(Global, fresh.Ports.Read(SmiEnable, 4));
        fresh.Lpc.Reset();
        fresh.Bus.WriteConfig(ChipsetBench.LpcDevFn, PmConfiguration1, 2, 0);
        Assert.Equal(0u, fresh.Bus.ReadConfig(ChipsetBench.LpcDevFn, PmConfiguration1, 2));
    }

    [Fact]
    public void Without_the_mode_firmware_takes_it_as_set_up()
    {
        var bench = new ChipsetBench();
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, 0x40, 4, 0x601);
        bench.Bus.WriteConfig(ChipsetBench.LpcDevFn, 0x44, 1, 0x80);
        Assert.Equal(Apmc, bench.Ports.Read(SmiEnable, 4));
        bench.Ports.Write(SmiEnable, 4, Global | Apmc);
        bench.Ports.Write(Command, 1, 0x55);
    }

    [Theory]
    [InlineData(0, 0)] [InlineData(2, 1)]
    public void The_Piix4_asks_DEVACTB(byte enable, int expected)
    {
        var ports = TestBus.Ports();
        var pm = new Piix4Pm(new FakeClock(), ports, IrqLine.Unconnected("sci"), static _ => { }, () => _smis++);
        var bus = TestBus.Make([.. Enumerable.Repeat<Action<bool>>(_ => { }, 4)], ports);
        bus.Plug(pm, 11);
        pm.Reset();
        Assert.Equal(0u, bus.ReadConfig(11, 0x5B, 1));
        bus.WriteConfig(11, 0x5B, 1, enable);
        ports.Write(Command, 1, 0x55);
        ports.Write(Command, 1, Piix4Pm.AcpiEnable);
        Assert.Equal(expected, _smis);
    }

    [Theory]
    [InlineData(1, 1, true)] [InlineData(1, 0, false)] [InlineData(0, 1, false)] [InlineData(1, 3, false)]
    public void Features_are_agreed_on_if_they_are_offered(ulong offered, byte requested, bool isBroadcast)
    {
        var features = new SmiFeatures(offered);
        Assert.Equal(BitConverter.GetBytes(offered), features.Offered);
        features.Requested.Span[0] = requested;
        features.Agree();
        Assert.Equal(isBroadcast, features.IsBroadcast);
        Assert.Equal((requested & ~offered) != 0, features.IsOpen);
        Assert.Equal(features.IsOpen ? 0 : 1, features.Accepted.Span[0]);

        var copy = new SmiFeatures(offered);
        StateNode.Save(features.Exchange).Load(copy.Exchange);
        Assert.Equal((features.IsBroadcast, features.IsOpen), (copy.IsBroadcast, copy.IsOpen));
        copy.Reset();
        Assert.Equal((false, true, 0), (copy.IsBroadcast, copy.IsOpen, copy.Requested.Span[0]));
    }
}
