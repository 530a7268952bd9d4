using Qkvm.Hw.Storage;
using static Qkvm.Hw.Storage.AhciRegisters;
using static Qkvm.Hw.Tests.Storage.AhciBench;

namespace Qkvm.Hw.Tests.Storage;

/// <summary>The controller's registers, resets and interrupts.</summary>
public sealed class AhciTests : IDisposable
{
    readonly AhciBench _ahci = new();

    public void Dispose() => _ahci.Dispose();

    [Fact]
    public void Its_configuration_space_is_QEMUs()
    {
        Assert.Equal(0x2922_8086u, _ahci.ReadConfig(0, 4));
        Assert.Equal(0x0106_0102u, _ahci.ReadConfig(8, 4));
        Assert.Equal(0x80u, _ahci.ReadConfig(0x34, 1));
        Assert.Equal(0x0080_A805u, _ahci.ReadConfig(0x80, 4));     // MSI of one vector, 64 bits; SATA is next
        Assert.Equal(0x40u, _ahci.ReadConfig(0x90, 1));            // AHCI mode
        Assert.Equal(0x0010_0012u, _ahci.ReadConfig(0xA8, 4));
        Assert.Equal(0x48u, _ahci.ReadConfig(0xAC, 4));            // the pair is at 10h of BAR 4
        _ahci.WriteConfig(0x20, 4, uint.MaxValue);
        _ahci.WriteConfig(0x24, 4, uint.MaxValue);
        Assert.Equal((0xFFFF_FFE1, 0xFFFF_F000), (_ahci.ReadConfig(0x20, 4), _ahci.ReadConfig(0x24, 4)));
    }

    [Fact]
    public void The_capabilities_are_QEMUs()
    {
        Assert.Equal(0xC014_1F05u, _ahci.Host(CAP));
        Assert.Equal(0x3Fu, _ahci.Host(PI));
        Assert.Equal(0x0001_0000u, _ahci.Host(VS));
        Assert.Equal(AE | IE, _ahci.Host(GHC));
        _ahci.Host(CAP, 0);
        _ahci.Host(GHC, 0);
        Assert.Equal((0xC014_1F05u, AE), (_ahci.Host(CAP), _ahci.Host(GHC)));
        Assert.Equal((Present, 0u), (_ahci.Port(1, PxSSTS), _ahci.Port(2, PxSSTS)));
        Assert.Equal((NoStatus, NoSignature, 6u),
            (_ahci.Port(0, PxTFD), _ahci.Port(0, PxSIG), _ahci.Port(0, PxCMD)));
        Assert.Equal(0ul, _ahci.Memory.Read(Registers + FirstPort + Ports * PortSize, 4));
        _ahci.Memory.Write(Registers + 0xFFC, 4, 1);
    }

    [Fact]
    public void The_index_and_data_pair_reaches_the_same_registers()
    {
        _ahci.Bench.Memory.Ports.Write(Pair + 0x10, 4, FirstPort + PxCLB);
        _ahci.Bench.Memory.Ports.Write(Pair + 0x14, 4, 0x1234_5678);
        Assert.Equal(0x1234_5400u, _ahci.Port(0, PxCLB));
        _ahci.Bench.Memory.Ports.Write(Pair + 0x10, 4, 0xFFFF_FFFF);
        Assert.Equal(0xFFCul, _ahci.Bench.Memory.Ports.Read(Pair + 0x10, 4));
        Assert.Equal(0ul, _ahci.Bench.Memory.Ports.Read(Pair + 0x14, 4));
    }

    [Theory]
    [InlineData(0, 0x0000_0101u, 0x50, 0)]
    [InlineData(1, 0xEB14_0101u, 0x00, 0xEB14)]
    public void The_signature_comes_when_frames_are_received(int port, uint signature, byte status, int cylinder)
    {
        _ahci.Start(port);
        Assert.Equal(signature, _ahci.Port(port, PxSIG));
        Assert.Equal(status, _ahci.Status(port));
        Assert.Equal([0x34, 0x40, status, 1, 1, (byte)cylinder, (byte)(cylinder >> 8)],
            _ahci.ReceivedAt(port, 0x40, 7));
    }

    [Fact]
    public void Comreset_resets_the_drive_and_tells_its_signature_again()
    {
        _ahci.Start(0);
        _ahci.Run(0, Fis(0x25, 5, 1), (Data, 512));
        _ahci.Port(0, PxCMD, FRE);
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Port(0, PxSCTL, Initialize);
        Assert.Equal(0u, _ahci.Port(0, PxSSTS));
        _ahci.Port(0, PxSCTL, 0);
        Assert.Equal(Present, _ahci.Port(0, PxSSTS));
        Assert.Equal((0x101u, DHRS, Good), (_ahci.Port(0, PxSIG), _ahci.Port(0, PxIS), _ahci.Status(0)));
    }

    [Fact]
    public void A_reset_waits_for_what_the_drive_does_in_memory()
    {
        _ahci.Start(0);
        _ahci.Disk.Hold();
        _ahci.Issue(0, 3, Queued(false, 3, 7, 8), (Data, 8 * 512));
        _ahci.Issue(0, 4, Queued(false, 4, 70, 8), (Data + 0x10000, 8 * 512));
        _ahci.Port(0, PxCMD, FRE);
        Assert.Equal(CR, _ahci.Port(0, PxCMD) & CR);
        _ahci.Port(0, PxSCTL, Initialize);
        _ahci.Port(0, PxSCTL, 0);
        Assert.Equal((NoSignature, Busy), (_ahci.Port(0, PxSIG), _ahci.Status(0)));
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Disk.Release();
        _ahci.Bench.Pump.Until(() => _ahci.Port(0, PxSIG) == 0x101);
        Assert.Equal((Good, DHRS, 0u),
            (_ahci.Status(0), _ahci.Port(0, PxIS), _ahci.Port(0, PxCMD) & CR));   // nothing of what was queued
    }

    [Fact]
    public void A_reset_of_the_controller_keeps_addresses_alone()
    {
        _ahci.Start(0);
        _ahci.Host(GHC, IE | HR);
        Assert.Equal((AE, 0u), (_ahci.Host(GHC), _ahci.Host(IS)));
        Assert.Equal((Lists, Received), (_ahci.Port(0, PxCLB), _ahci.Port(0, PxFB)));
        Assert.Equal((6u, 0u, NoSignature), (_ahci.Port(0, PxCMD), _ahci.Port(0, PxIE), _ahci.Port(0, PxSIG)));
        Assert.False(_ahci.Bench.Inta);
        _ahci.Start(0);
        Assert.Equal(0x101u, _ahci.Port(0, PxSIG));
    }

    [Fact]
    public void A_software_reset_goes_by_two_frames()
    {
        _ahci.Start(0);
        byte[] control = Fis(0);
        (control[1], control[15]) = (0, 4);
        _ahci.Run(0, control);
        Assert.Equal(Busy, _ahci.Status(0) & Busy);
        control[15] = 0;
        _ahci.Run(0, control);
        Assert.Equal((0x101u, Good), (_ahci.Port(0, PxSIG), _ahci.Status(0)));
        Assert.Equal(DHRS, _ahci.Run(0, Fis(0xE5)));
    }

    [Fact]
    public void The_wire_stays_up_until_both_registers_are_clear()
    {
        _ahci.Start(0, DHRS);
        Assert.False(_ahci.Bench.Inta);
        _ahci.Run(0, Fis(0xE5));
        Assert.Equal((1u, true), (_ahci.Host(IS), _ahci.Bench.Inta));
        _ahci.Host(IS, 1);                                         // in the wrong order: the port still wants it
        Assert.Equal((1u, true), (_ahci.Host(IS), _ahci.Bench.Inta));
        _ahci.Port(0, PxIS, uint.MaxValue);
        Assert.True(_ahci.Bench.Inta);
        _ahci.Host(IS, 1);
        Assert.Equal((0u, false), (_ahci.Host(IS), _ahci.Bench.Inta));
        Assert.Empty(_ahci.Bench.Messages);
    }

    [Fact]
    public void With_MSI_each_event_is_a_message_and_the_wire_is_silent()
    {
        _ahci.WriteConfig(MsiAt + 4, 4, 0xFEE0_0000);
        _ahci.WriteConfig(MsiAt + 12, 2, 0x51);
        _ahci.WriteConfig(MsiAt + 2, 2, 1);
        _ahci.Start(0, DHRS);
        _ahci.Run(0, Fis(0xE5));
        Assert.Equal([(0xFEE0_0000UL, 0x51u)], _ahci.Bench.Messages);
        _ahci.Port(0, PxIS, uint.MaxValue);                        // and IS is not cleared yet
        Assert.Single(_ahci.Bench.Messages);
        _ahci.Run(0, Fis(0xE5));
        Assert.Equal(2, _ahci.Bench.Messages.Count);
        _ahci.Host(IS, 1);                                         // the second event is still there
        Assert.Equal(3, _ahci.Bench.Messages.Count);
        _ahci.Port(0, PxIS, uint.MaxValue);
        _ahci.Host(IS, 1);
        Assert.Equal(3, _ahci.Bench.Messages.Count);
        Assert.False(_ahci.Bench.Inta);
    }

    [Fact]
    public void Boot_paths_and_places_are_QEMUs()
    {
        Qkvm.Core.Devices.IBusWires port = _ahci.Controller.Channels[1], bus = _ahci.Bench.Bus;
        Assert.Equal("pci8086,2922@4", bus.PathOf(_ahci.Controller));
        Assert.Equal("drive@1", port.PathOf(_ahci.CdRom));
        Assert.Equal("/disk@0", _ahci.CdRom.BootPathEnd);
        Assert.Equal([0, 2, 4, 6, 8, 10], _ahci.Controller.Channels.Select(p => p.FirstPlace));
    }
}
