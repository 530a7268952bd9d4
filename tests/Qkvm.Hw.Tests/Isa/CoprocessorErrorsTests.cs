using Qkvm.Core.Irq;
using Qkvm.Core.Machine;
using Qkvm.Hw.Isa;

namespace Qkvm.Hw.Tests.Isa;

/// <summary>82371AB, section 4.2.7; Intel SDM vol. 1, figure D-1.</summary>
public sealed class CoprocessorErrorsTests
{
    readonly IrqLine _irq = new("irq13", _ => { });
    readonly CoprocessorErrors _errors;

    public CoprocessorErrorsTests() => _errors = new CoprocessorErrors(_irq, new MachineLock());

    [Fact]
    public void A_write_takes_the_interrupt_back_and_ignores_the_error_until_it_is_gone()
    {
        _errors.SetError(true);
        Assert.Equal((true, false), (_irq.Level, _errors.IsIgnored));
        _errors.Write(0, 1, 0);
        Assert.Equal((false, true), (_irq.Level, _errors.IsIgnored));
        _errors.SetError(false);
        Assert.False(_errors.IsIgnored);
        _errors.SetError(true);
        Assert.Equal((true, false), (_irq.Level, _errors.IsIgnored));
    }

    [Fact]
    public void Without_an_error_a_write_ignores_nothing()
    {
        _errors.Write(0, 1, 0);
        _errors.SetError(true);
        Assert.Equal((true, false), (_irq.Level, _errors.IsIgnored));
        _errors.Reset();
        Assert.False(_irq.Level);
    }
}
