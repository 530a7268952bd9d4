using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>The PC's two 8237A and their page registers. Spec: Intel 82371AB (PIIX4), section 4.2.1.</summary>
/// <remarks>Ports: <see cref="Master"/> 00h-0Fh, <see cref="Slave"/> C0h-DFh, <see cref="Pages"/> 80h-8Fh.
/// Deviations: no device of the machine uses ISA DMA, so no channel ever moves.</remarks>
public sealed class I8237Pair : IDevice
{
    readonly PageRegisters _pages = new();

    public string Name => "i8237";
    public I8237 Master { get; } = new(stride: 1);
    public I8237 Slave { get; } = new(stride: 2);
    public IRegisterBank Pages => _pages;

    public void Reset()
    {
        Master.Reset();
        Slave.Reset();
        Array.Clear(_pages.Values);
    }

    public void Exchange(StateStream state)
    {
        Master.Exchange(state.Group("master"));
        Slave.Exchange(state.Group("slave"));
        state.Block("pages", _pages.Values);
    }

    sealed class PageRegisters : IRegisterBank
    {
        public readonly byte[] Values = new byte[16];
        public ulong Read(ulong offset, int size) => Values[offset];
        public void Write(ulong offset, int size, ulong value) => Values[offset] = (byte)value;
    }
}
