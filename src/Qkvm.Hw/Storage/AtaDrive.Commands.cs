using Qkvm.Core.Block;

namespace Qkvm.Hw.Storage;

/// <summary>The command set. ATA/ATAPI-7 volume 1, section 6; codes are named there.</summary>
public sealed partial class AtaDrive
{
    const byte UltraDmaMode5 = 0x45, DefaultTransferMode = UltraDmaMode5;

    // SMART, sections 6.51 ff.: its key in LBA mid and high, and the same reversed for a failing drive
    const byte SmartKeyMid = 0x4F, SmartKeyHigh = 0xC2;

    protected override void Execute(byte command)
    {
        if (RefusesWhileQueued(command)) return;
        switch (command)
        {
            case 0x20 or 0x21: ReadSectors(false, 1); break;       // READ SECTOR(S)
            case 0x24: ReadSectors(true, 1); break;                // READ SECTOR(S) EXT
            case 0xC4 when _multiple > 0: ReadSectors(false, _multiple); break;   // READ MULTIPLE
            case 0x29 when _multiple > 0: ReadSectors(true, _multiple); break;    // READ MULTIPLE EXT
            case 0x30 or 0x31: WriteSectors(false, 1); break;      // WRITE SECTOR(S)
            case 0x34: WriteSectors(true, 1); break;               // WRITE SECTOR(S) EXT
            case 0xC5 when _multiple > 0: WriteSectors(false, _multiple); break;  // WRITE MULTIPLE
            case 0x39 when _multiple > 0: WriteSectors(true, _multiple); break;   // WRITE MULTIPLE EXT
            // WRITE MULTIPLE FUA EXT
            case 0xCE when _multiple > 0: WriteSectors(true, _multiple, forceUnitAccess: true); break;
            case 0xC8 or 0xC9: TransferDma(false, isWrite: false); break;         // READ DMA
            case 0x25: TransferDma(true, isWrite: false); break;   // READ DMA EXT
            case 0xCA or 0xCB: TransferDma(false, isWrite: true); break;          // WRITE DMA
            case 0x35: TransferDma(true, isWrite: true); break;    // WRITE DMA EXT
            case 0x3D: TransferDma(true, isWrite: true, forceUnitAccess: true); break;   // WRITE DMA FUA EXT
            case 0x40 or 0x41: Verify(false); break;               // READ VERIFY SECTOR(S)
            case 0x42: Verify(true); break;                        // READ VERIFY SECTOR(S) EXT
            case 0xE7 or 0xEA:                                     // FLUSH CACHE, FLUSH CACHE EXT
                _phase = Phase.Flush;
                Submit(BlockOperation.Flush, 0, default);
                break;
            case ReadQueued or WriteQueued when Port is IQueuedIdePort port:      // READ and WRITE FPDMA QUEUED
                BeginQueued(port, isWrite: command == WriteQueued);
                break;
            case ReadLog when Port is IQueuedIdePort: SendLog(); break;    // READ LOG EXT
            case 0xEC: SendSector(WriteIdentify); break;           // IDENTIFY DEVICE
            case 0xEF: SetFeatures(); break;                       // SET FEATURES
            case 0xC6: SetMultiple(); break;                       // SET MULTIPLE MODE
            case 0x91: InitializeParameters(); break;              // INITIALIZE DEVICE PARAMETERS
            case 0xF8: SendNativeMax(false); break;                // READ NATIVE MAX ADDRESS
            case 0x27: SendNativeMax(true); break;                 // READ NATIVE MAX ADDRESS EXT
            case 0xB0: Smart(); break;                             // SMART
            case 0xE5 or 0x98:                                     // CHECK POWER MODE
                SectorCount = _standby ? (byte)0x00 : (byte)0xFF;
                Finish(Drdy | Dsc);
                break;
            case 0xE0 or 0xE2 or 0xE6 or 0x94 or 0x96 or 0x99: Rest(true); break;   // STANDBY (IMMEDIATE), SLEEP
            case 0xE1 or 0xE3 or 0x95 or 0x97: Rest(false); break; // IDLE (IMMEDIATE)
            case >= 0x10 and <= 0x1F or 0x70: Finish(Drdy | Dsc); break;   // RECALIBRATE, SEEK
            default: TellUnimplemented(command); Fail(Abrt); break;
        }
    }

    void Verify(bool isExtended)
    {
        if (!Begin(isExtended, isWrite: false, Phase.Idle)) return;
        (_lba, _left) = (_lba + _left, 0);
        EndTransfer(interrupt: true);
    }

    void Rest(bool standby)
    {
        _standby = standby;
        Finish(Drdy | Dsc);
    }

    void SetFeatures()
    {
        switch (Features)
        {
            case 0x02: Backend.WriteCache = true; break;
            case 0x82:
                Backend.WriteCache = false;
                _phase = Phase.Flush;
                Submit(BlockOperation.Flush, 0, default);
                return;
            case 0xAA: _lookAhead = true; break;
            case 0x55: _lookAhead = false; break;
            case 0x03: if (!SetTransferMode(SectorCount)) { Fail(Abrt); return; } break;
            // accepted, without effect
            case 0x05 or 0x85 or 0x42 or 0xC2 or 0x66 or 0xCC or 0x69 or 0x67 or 0x96 or 0x9A: break;
            default: Fail(Abrt); return;
        }
        Finish(Drdy | Dsc);
    }

    /// <summary>Table "Transfer mode values": PIO up to 4, multiword DMA up to 2, Ultra DMA up to 5.</summary>
    bool SetTransferMode(byte mode)
    {
        int level = mode & 7;
        bool known = (mode >> 3) switch { 0 => level <= 1, 1 => level <= 4, 4 => level <= 2, 8 => level <= 5,
            _ => false };
        if (known) _transferMode = mode;
        return known;
    }

    void SetMultiple()
    {
        if (SectorCount > MaxMultiple || (SectorCount & SectorCount - 1) != 0) { Fail(Abrt); return; }
        _multiple = SectorCount;
        Finish(Drdy | Dsc);
    }

    void InitializeParameters()
    {
        if (SectorCount == 0) { Fail(Abrt); return; }
        (_heads, _sectorsPerTrack) = ((byte)((DeviceRegister & 15) + 1), SectorCount);
        Finish(Drdy | Dsc);
    }

    void SendNativeMax(bool isExtended)
    {
        _isExtended = isExtended;
        DeviceRegister |= LbaMode;
        StoreAddress(isExtended ? TotalSectors - 1 : Math.Min(TotalSectors - 1, (1 << 28) - 1));
        Finish(Drdy | Dsc);
    }

    void Smart()
    {
        const byte ReadData = 0xD0, ReadThresholds = 0xD1, AutoSave = 0xD2, Offline = 0xD4, Enable = 0xD8,
            Disable = 0xD9, ReturnStatus = 0xDA;
        if (LbaMid != SmartKeyMid || LbaHigh != SmartKeyHigh || !_smartEnabled && Features != Enable)
            { Fail(Abrt); return; }
        switch (Features)
        {
            case ReadData or ReadThresholds: SendSector(WriteSmartData); return;
            case Enable: _smartEnabled = true; break;
            case Disable: _smartEnabled = false; break;
            case AutoSave or Offline or ReturnStatus: break;       // healthy: the key stays as it is
            default: Fail(Abrt); return;
        }
        Finish(Drdy | Dsc);
    }

    delegate void FillSector(Span<byte> sector);

    void SendSector(FillSector fill)
    {
        _phase = Phase.DataIn;
        Span<byte> sector = Buffer.AsSpan(0, SectorSize);
        sector.Clear();
        fill(sector);
        BeginBlock(0, SectorSize, hostWrites: false);
        SetInterrupt(true);
    }

    static void WriteSmartData(Span<byte> sector)
    {
        sector[0] = 1;                                             // structure revision; no attributes
        AtaIdentify.SetChecksum(sector);
    }
}
