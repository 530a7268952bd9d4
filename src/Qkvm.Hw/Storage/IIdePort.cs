using Qkvm.Core.Block;
using Qkvm.Core.Devices;

namespace Qkvm.Hw.Storage;

/// <summary>What a drive is plugged to and speaks with: a channel with two drives on one cable, or a port of a SATA
/// controller. Under the machine lock.</summary>
public interface IIdePort
{
    /// <summary>The drive's INTRQ changed.</summary>
    void InterruptChanged(IdeDrive drive);

    /// <summary>The drive waits for a DMA transfer (DMARQ): <see cref="IdeDrive.RunDma"/> starts it, now or
    /// later.</summary>
    void DmaReady(IdeDrive drive);

    /// <summary>The transfer that was started by <see cref="IdeDrive.RunDma"/> has ended.</summary>
    /// <param name="written">Bytes of memory that may have changed, also where the transfer failed.</param>
    void DmaFinished(IdeDrive drive, long written);

    /// <summary>A reset has ended: the signature stands in the registers, and nothing is in flight.</summary>
    void ResetDone(IdeDrive drive);
}

/// <summary>A port to which a drive may have many commands at once (NCQ). Each has the memory of its data to
/// itself.</summary>
public interface IQueuedIdePort : IIdePort
{
    /// <summary>The memory of the command that is being written to the drive, until
    /// <see cref="QueuedEnded"/>.</summary>
    /// <param name="tag">0 to 31, not in use.</param>
    /// <returns>False: it is too short, or leads outside RAM.</returns>
    bool TryMap(int tag, long length, bool toMemory, out ScatterList memory);

    /// <summary>A command that <see cref="TryMap"/> was asked for has ended; the status tells how.</summary>
    /// <param name="written">Bytes of memory that may have changed.</param>
    /// <param name="failed">The drive has forgotten all its commands, and tells no more of them than this.</param>
    void QueuedEnded(int tag, long written, bool failed);
}

/// <summary>A bus of drives, as their models see it.</summary>
public interface IIdeBus : IBusWires
{
    /// <summary>Places of the machine before this bus's first: drives without a serial number are counted by
    /// them.</summary>
    int FirstPlace { get; }

    /// <summary>The unit that users name, or the first that is free.</summary>
    int UnitFor(Properties properties);
}
