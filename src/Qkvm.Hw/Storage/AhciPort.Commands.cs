using System.Buffers.Binary;
using System.Numerics;
using static Qkvm.Hw.Storage.AhciRegisters;

namespace Qkvm.Hw.Storage;

/// <summary>Commands: from the list to the drive, one after another, or many where they are queued. AHCI 1.3.1, chapter
/// 5 and sections 4.2 and 6.2.</summary>
public sealed partial class AhciPort
{
    // Section 4.2.2: command header; section 4.2.3: command table
    const int HeaderLength = 32, PrdByteCount = 4, RegionsAt = 0x80, ShortestFis = 2, LongestFis = 16;
    const byte Busy = 0x80, DataRequest = 8, Error = 1;            // in Status
    const byte Packet = 0xA0, Diagnostic = 0x90, ReadQueued = 0x60, WriteQueued = 0x61;

    readonly byte[] _table = new byte[PacketAt + PacketLength];    // not migrated: full only within a call
    bool _isQueued;                                                // not migrated: as above
    int _running = -1;                                             // the slot whose command the drive has
    int _nextSlot;
    bool _isHalted;                                                // by an error, until ST is cleared
    bool _advances;                                                // not migrated: true only within a call

    bool IsRunning => (this[PxCMD] & ST) != 0 && !_isHalted;

    /// <summary>Or somebody still reads and writes memory for it.</summary>
    bool IsEngineOn => (this[PxCMD] & ST) != 0 || _drive is { HasRequests: true };

    ulong CommandList => this[PxCLB] | (ulong)this[PxCLBU] << 32;

    /// <summary>Nobody is to hear of commands that the drive has.</summary>
    void Abandon() => (_running, _nextSlot, _isHalted, _reported, _isPacketNext) = (-1, 0, false, 0, false);

    /// <summary>Does all that can be done now; whatever makes more possible calls it again.</summary>
    void Advance()
    {
        if (_advances) return;
        _advances = true;
        while (IsRunning && _drive is { } drive)
        {
            if (_running >= 0 && !drive.Block.IsEmpty) MoveBlock(drive);
            else if ((drive.ReadRegister(7, false) & (Busy | DataRequest)) != 0 || _signatureWaits) break;
            else if (_running >= 0) Finish(drive);
            else if (_inFlight == _reported && this[PxCI] != 0) Issue(drive, NextSlot());
            else break;
        }
        _advances = false;
    }

    /// <summary>Round robin.</summary>
    int NextSlot()
    {
        int slot = BitOperations.TrailingZeroCount(BitOperations.RotateRight(this[PxCI], _nextSlot)) + _nextSlot & 31;
        _nextSlot = slot + 1 & 31;
        this[PxCMD] = this[PxCMD] & ~CCSMask | (uint)slot << CCS;
        return slot;
    }

    void Issue(IdeDrive drive, int slot)
    {
        Span<byte> header = stackalloc byte[HeaderLength];
        if (!_dma().Read(CommandList + (ulong)(slot * HeaderLength), header)) { Halt(HBFS); return; }
        uint description = BinaryPrimitives.ReadUInt32LittleEndian(header);
        ulong table = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]) & ~0x7FUL;
        if (!_dma().Read(table, _table)) { Halt(HBFS); return; }
        Span<byte> fis = _table;
        bool isCommand = (fis[AhciFis.Flags] & AhciFis.IsCommand) != 0;
        if ((description & 31) is < ShortestFis or > LongestFis || fis[AhciFis.Type] != AhciFis.HostToDevice
            || (fis[AhciFis.Flags] & AhciFis.PortMultiplier) != 0 || isCommand && _softwareReset)
        {
            Halt(IFS);                                             // no drive takes this
            return;
        }
        if (!isCommand)
        {
            this[PxCI] &= ~(1u << slot);
            ControlSent((fis[AhciFis.Control] & AhciFis.SoftwareReset) != 0);
            return;
        }
        byte command = fis[AhciFis.Command];
        (_running, _regions, _regionCount, _byteCount) = (slot, table + RegionsAt, (int)(description >> 16), 0);
        (_isQueued, _isPacketNext, _interrupted) = (command is ReadQueued or WriteQueued, command == Packet, false);
        if (!_isQueued) _direct.Begin(_regions, _regionCount);
        AhciFis.LoadRegisters(drive, fis);
        if (command == Diagnostic) drive.SoftReset();
        else drive.WriteCommand(command);
    }

    /// <summary>Device Control: SRST resets the drive when it falls.</summary>
    void ControlSent(bool softwareReset)
    {
        bool falls = _softwareReset && !softwareReset;
        _softwareReset = softwareReset;
        if (falls) ResetDrive();
    }

    /// <summary>The drive has done with a command, or has taken one that is queued.</summary>
    void Finish(IdeDrive drive)
    {
        int slot = _running;
        _running = -1;
        bool failed = (drive.ReadRegister(7, false) & Error) != 0, isTaken = _isQueued && !failed;
        if (!isTaken && !_dma().Write(CommandList + (ulong)(slot * HeaderLength + PrdByteCount), 4, _byteCount))
        {
            Halt(HBFS);
            return;
        }
        if (failed) Fail();
        else this[PxCI] &= ~(1u << slot);
        PostRegisters(interrupt: !isTaken);
        if (failed) Raise(TFES);
    }

    void IIdePort.InterruptChanged(IdeDrive drive)
    {
        if (!drive.Interrupt) return;
        _interrupted = true;
        drive.ReadStatus();                                        // a frame tells the guest: the wire ends here
        Advance();
    }

    /// <summary>No command is issued, and of those that are queued nothing is heard, until ST is cleared: section
    /// 6.2.2.1.</summary>
    void Fail() => (_isHalted, _reported) = (true, 0);

    void Halt(uint why)
    {
        Fail();
        Raise(why);
    }
}
