using Qkvm.Core.Accel;

namespace Qkvm.Machines.Tests.Pc;

/// <summary>The chips' outputs that are pins of the processors: A20M#, FERR# and IGNNE#.</summary>
public sealed class ProcessorPinTests
{
    readonly TestMachine _machine = new();

    void Out(ulong port, byte value) => _machine.Board.Ports.Write(port, 1, value);

    [Fact]
    public void Each_way_to_the_a20_gate_opens_and_closes_it()
    {
        using (_machine)
        {
            Assert.True(_machine.Accelerator.IsA20Open);
            Out(0x92, 0);
            Assert.False(_machine.Accelerator.IsA20Open);
            Out(0x92, 2);
            Assert.True(_machine.Accelerator.IsA20Open);
            Out(0x64, 0xD1);
            Out(0x60, 0xDD);
            Assert.False(_machine.Accelerator.IsA20Open);
            Out(0x64, 0xD1);
            Out(0x60, 0xDF);
            Assert.True(_machine.Accelerator.IsA20Open);
            Out(0x64, 0xDD);
            Assert.False(_machine.Accelerator.IsA20Open);
            Out(0x64, 0xDF);
            Assert.True(_machine.Accelerator.IsA20Open);
            Out(0x64, 0xDD);
            _machine.Board.Reset();
            Assert.True(_machine.Accelerator.IsA20Open);
        }
    }

    [Fact]
    public void A_coprocessor_error_is_irq_13()
    {
        using (_machine)
        {
            byte Requests()
            {
                Out(0xA0, 0x0A);
                return (byte)_machine.Board.Ports.Read(0xA0, 1);
            }

            ICoprocessorErrors errors = _machine.Accelerator.Cpus[0].CoprocessorErrors!;
            errors.SetError(true);
            Assert.Equal(0x20, Requests() & 0x20);
            Out(0xF0, 0);
            Assert.True(errors.IsIgnored);
        }
    }
}
