using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Pci;

/// <summary>The reset control register at port CF9h: Intel 82371SB (PIIX3), order 290550, section 2.5.6.1 "RC"; ICH9,
/// order 316972, section 13.7.5 "RST_CNT".</summary>
/// <param name="kept">Bits beside Reset CPU, which triggers and reads as zero.</param>
/// <param name="reset">Asks for a reset of the machine.</param>
public sealed class ResetControl(byte kept, Action reset) : IRegisterBank
{
    /// <summary>RST_CPU: a rising edge resets.</summary>
    public const byte ResetCpu = 4;

    byte _value;

    public void Reset() => _value = 0;

    public ulong Read(ulong offset, int size) => _value;

    public void Write(ulong offset, int size, ulong value)
    {
        _value = (byte)(value & kept);
        if ((value & ResetCpu) != 0) reset();
    }

    public void Exchange(StateStream state) => state.Field("reset-control", ref _value);
}
