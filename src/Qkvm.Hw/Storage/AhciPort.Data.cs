using Qkvm.Core.Block;
using Qkvm.Core.Memory;
using static Qkvm.Hw.Storage.AhciRegisters;

namespace Qkvm.Hw.Storage;

/// <summary>Data between the drive and the memory of its commands, and the frames that tell of it. AHCI 1.3.1, sections
/// 4.2.1 and 5.6; Serial ATA 2.6, section 11.</summary>
public sealed partial class AhciPort
{
    const int PacketAt = 0x40, PacketLength = 16;                  // of the command table
    const byte BlockEnded = 0x50;                                  // Status when a data block has been transferred

    readonly Func<Dma> _dma;
    readonly AhciRegions _direct;                                  // of the command without a tag
    readonly AhciRegions?[] _queued = new AhciRegions?[Slots];     // by tag; made when one is used first
    ulong _regions;                                                // not migrated: nothing is in flight while saving
    int _regionCount;                                              // not migrated: as above
    uint _byteCount;                                               // not migrated: as above
    uint _inFlight, _reported;                                     // not migrated: as above; tags
    bool _interrupted;                                             // not migrated: true only within a call
    bool _isPacketNext;                                            // not migrated: as above

    /// <summary>A data block of PIO: the packet of a command comes from the command table.</summary>
    void MoveBlock(IdeDrive drive)
    {
        Span<byte> block = drive.Block;
        bool fromHost = drive.HostWrites;
        if (_isPacketNext && fromHost) _table.AsSpan(PacketAt, block.Length).CopyTo(block);
        else
        {
            RegionFault fault = _direct.Take(block.Length, !fromHost, out ScatterList memory);
            if (fault != RegionFault.None) { Halt(BitOf(fault)); return; }   // the drive waits, and is reset
            if (fromHost) memory.CopyTo(block);
            else memory.CopyFrom(block);
            _direct.MarkWritten(fromHost ? 0 : block.Length);
            _byteCount += (uint)block.Length;
        }
        _isPacketNext = false;
        Span<byte> fis = stackalloc byte[AhciFis.RegistersLength];
        AhciFis.FillPioSetup(fis, drive, block.Length, _interrupted, BlockEnded);
        bool isPosted = Post(AhciFis.PioSetupAt, fis);
        if (_interrupted && isPosted) Raise(PSS);
        _interrupted = false;
        drive.EndBlock();
    }

    void IIdePort.DmaReady(IdeDrive drive)
    {
        ScatterList memory = default;
        RegionFault fault = _running < 0 ? RegionFault.TooShort
            : _direct.Take(drive.DmaLength, drive.DmaToMemory, out memory);
        if (fault == RegionFault.None) drive.RunDma(memory);
        else
        {
            Raise(BitOf(fault));
            drive.DmaRefused(tooShort: false);
            _byteCount = 0;
        }
    }

    void IIdePort.DmaFinished(IdeDrive drive, long written)
    {
        _byteCount = (uint)(drive.DmaToMemory ? written : drive.DmaLength);
        _direct.MarkWritten(written);
    }

    bool IQueuedIdePort.TryMap(int tag, long length, bool toMemory, out ScatterList memory)
    {
        AhciRegions regions = _queued[tag] ??= new AhciRegions(_dma);
        regions.Begin(_regions, _regionCount);
        RegionFault fault = regions.Take(length, toMemory, out memory);
        if (fault != RegionFault.None)
        {
            Raise(BitOf(fault));
            return false;
        }
        _inFlight |= 1u << tag;
        _reported |= 1u << tag;
        return true;
    }

    void IQueuedIdePort.QueuedEnded(int tag, long written, bool failed)
    {
        uint bit = 1u << tag;
        _queued[tag]!.MarkWritten(written);
        _inFlight &= ~bit;
        if ((_reported & bit) != 0)
        {
            _reported &= ~bit;
            this[PxSACT] &= failed ? uint.MaxValue : ~bit;
            if (failed) Fail();
            Span<byte> fis = stackalloc byte[AhciFis.DeviceBitsLength];
            AhciFis.FillDeviceBits(fis, _drive!, failed ? 0 : bit);
            if (Post(AhciFis.DeviceBitsAt, fis)) Raise(failed ? SDBS | TFES : SDBS);
        }
        Advance();
    }

    static uint BitOf(RegionFault fault) => fault == RegionFault.Unmapped ? HBFS : OFS;

    void PostRegisters(bool interrupt)
    {
        Span<byte> fis = stackalloc byte[AhciFis.RegistersLength];
        AhciFis.FillRegisters(fis, _drive!, interrupt);
        if (Post(AhciFis.RegistersAt, fis) && interrupt) Raise(DHRS);
    }

    /// <summary>Into the area of what is received, while that is on (FRE); false where it is no RAM.</summary>
    bool Post(int at, ReadOnlySpan<byte> fis)
    {
        if ((this[PxCMD] & FRE) == 0) return true;
        if (_dma().Write((this[PxFB] | (ulong)this[PxFBU] << 32) + (ulong)at, fis)) return true;
        Halt(HBFS);
        return false;
    }
}
