using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;

namespace Qkvm.Hw.Isa;

/// <summary>The PC's two 8237A and their page registers. Spec: Intel 82371AB (PIIX4), section 4.2.1.</summary>
/// <remarks>Ports: <see cref="Master"/> 00h-0Fh, <see cref="Slave"/> C0h-DFh, <see cref="Pages"/> 80h-8Fh.
/// Deviations: nothing moves from memory to memory, and software requests move nothing.</remarks>
public sealed class I8237Pair(Dma memory) : IDevice, IIsaDma
{
    /// <summary>Where the page register of each channel is, in their ports; 4 is the cascade's.</summary>
    static ReadOnlySpan<byte> PageOf => [7, 3, 1, 2, 15, 11, 9, 10];

    readonly PageRegisters _pages = new();

    public string Name => "i8237";
    public I8237 Master { get; } = new(stride: 1);
    public I8237 Slave { get; } = new(stride: 2);
    public IRegisterBank Pages => _pages;

    public int Read(int channel, Span<byte> data) => Transfer(channel, data, default);

    public int Write(int channel, ReadOnlySpan<byte> data) => Transfer(channel, default, data);

    public bool HasEnded(int channel) => channel > IIsaDma.Cascade ? Slave.IsMasked(channel - IIsaDma.Cascade)
        : Master.IsMasked(channel);

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

    int Transfer(int channel, Span<byte> read, ReadOnlySpan<byte> written)
    {
        bool isWide = channel > IIsaDma.Cascade;
        if (channel == IIsaDma.Cascade) return 0;
        ulong page = (ulong)_pages.Values[PageOf[channel]] << 16;
        return isWide ? Slave.Transfer(channel - IIsaDma.Cascade, page & ~0x1FFFFUL, memory, read, written)
            : Master.Transfer(channel, page, memory, read, written);
    }

    sealed class PageRegisters : IRegisterBank
    {
        public readonly byte[] Values = new byte[16];
        public ulong Read(ulong offset, int size) => Values[offset];
        public void Write(ulong offset, int size, ulong value) => Values[offset] = (byte)value;
    }
}
