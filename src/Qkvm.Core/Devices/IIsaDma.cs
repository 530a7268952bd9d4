namespace Qkvm.Core.Devices;

/// <summary>DMA of the ISA bus: seven channels that the guest has programmed, of which 0 to 3 move bytes and 5 to 7
/// words. Under the machine lock.</summary>
public interface IIsaDma
{
    const int Channels = 8, Cascade = 4;

    /// <summary>From memory to a device, as far as the channel is set up and unmasked.</summary>
    /// <returns>How many bytes.</returns>
    int Read(int channel, Span<byte> data);

    /// <summary>From a device to memory.</summary>
    /// <inheritdoc cref="Read"/>
    int Write(int channel, ReadOnlySpan<byte> data);

    /// <summary>TC: the channel's count is over, so that it takes no more.</summary>
    bool HasEnded(int channel);
}
