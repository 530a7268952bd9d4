using Qkvm.Core.Irq;
using Qkvm.Hw.Pci;
using Qkvm.Testing;

namespace Qkvm.Hw.Tests.Pci;

/// <summary>ACPI 6.3, sections 4.8.3.6 and 4.8.3.7; the layout is QEMU's.</summary>
public sealed class GenericEventDeviceTests : IDisposable
{
    const ulong Base = 0xFEA0_0000;

    readonly TestMemory _memory = new();
    readonly GenericEventDevice _device;
    int _pulses, _powerOffs, _resets;

    public GenericEventDeviceTests()
    {
        _device = new GenericEventDevice(new IrqLine("ged", level => { if (level) _pulses++; }), () => _powerOffs++,
            () => _resets++);
        _device.MapAt(Base, _memory.Space);
    }

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void The_power_button_interrupts_and_is_told_once()
    {
        _device.PressPowerButton();
        Assert.Equal(1, _pulses);
        Assert.Equal(2u, _memory.Space.Read(Base, 4));
        Assert.Equal(0u, _memory.Space.Read(Base, 4));
    }

    [Theory]
    [InlineData(0x200, 5 << 2 | 0x20, 1, 0)]                       // SLP_TYP 5, SLP_EN
    [InlineData(0x200, 5 << 2, 0, 0)]                              // not enabled
    [InlineData(0x200, 1 << 2 | 0x20, 0, 0)]                       // another state
    [InlineData(0x201, 5 << 2 | 0x20, 0, 0)]                       // the status register
    [InlineData(0x202, 0x42, 0, 1)]
    [InlineData(0x202, 0x41, 0, 0)]
    public void Its_registers_switch_off_and_reset(ulong register, ulong value, int powerOffs, int resets)
    {
        _memory.Space.Write(Base + register, 1, value);
        Assert.Equal((powerOffs, resets), (_powerOffs, _resets));
    }

    [Fact]
    public void Its_state() => DeviceSuite.Check(
        bench => new GenericEventDevice(bench.Wire("ged"), static () => { }, static () => { }),
        device => ((GenericEventDevice)device).PressPowerButton());
}
