using Qkvm.Core.Block;
using Qkvm.Core.State;

namespace Qkvm.Hw.Storage;

/// <summary>Native command queuing: up to 32 commands, known by their tags, that end in any order. Serial ATA 2.6,
/// section 13.6; ATA8-ACS (T13/1699-D), NCQ feature set and annex A (log page 10h).</summary>
public sealed partial class AtaDrive
{
    public const int QueueDepth = 32;

    const byte ReadQueued = 0x60, WriteQueued = 0x61, ReadLog = 0x2F;
    const byte LogDirectory = 0x00, QueuedErrorLog = 0x10;
    const byte ForceUnitAccess = 0x80;                             // in Device, of a queued write

    readonly QueuedRequest?[] _queued = new QueuedRequest?[QueueDepth];   // made when a tag is used first
    readonly byte[] _queuedError = new byte[16];                   // the head of log page 10h
    uint _tags;                                                    // not migrated: nothing is in flight while saving
    bool _queueFailed;                                             // until its log is read, or a reset

    /// <summary>After an error the drive has the log to tell and nothing else; and a command without a tag among those
    /// that have one is an error.</summary>
    bool RefusesWhileQueued(byte command)
    {
        bool isQueued = command is ReadQueued or WriteQueued;
        bool isMixed = _tags != 0 && !isQueued;
        if (!isMixed && (!_queueFailed || command == ReadLog && LbaLow == QueuedErrorLog)) return false;
        if (isMixed && !_queueFailed) KeepError(0x80, Abrt, 0);
        Fail(Abrt);
        return true;
    }

    void BeginQueued(IQueuedIdePort port, bool isWrite)
    {
        int tag = SectorCount >> 3, count = Features | HobFeatures << 8;
        if (count == 0) count = 65536;
        _isExtended = true;
        TryReadAddress(out long lba);
        byte error = (_tags >> tag & 1) != 0 ? Abrt
            : lba + count > TotalSectors ? Idnf
            : !port.TryMap(tag, (long)count * SectorSize, !isWrite, out ScatterList memory) ? Abrt
            : Start(memory);
        if (error == 0) return;
        KeepError((byte)tag, error, Math.Max(lba, error == Idnf ? TotalSectors : 0));
        Fail(error);

        byte Start(ScatterList data)
        {
            QueuedRequest request = _queued[tag] ??= new QueuedRequest(this, tag);
            request.Operation = isWrite ? BlockOperation.Write : BlockOperation.Read;
            (request.Offset, request.Length, request.Buffers) = (lba * SectorSize, data.Length, data);
            request.Fua = isWrite && (DeviceRegister & ForceUnitAccess) != 0;
            _tags |= 1u << tag;
            Status = Drdy | Dsc;                                   // free for the next
            BeginRequest();
            Backend.Submit(request);
            return 0;
        }
    }

    void EndQueued(QueuedRequest request, int errno)
    {
        bool isWrite = request.Operation == BlockOperation.Write;
        long written = isWrite ? 0 : request.Length;
        request.Buffers = default;
        _tags &= ~(1u << request.Tag);
        bool failed = errno != 0 && !_queueFailed;
        if (failed)
        {
            KeepError((byte)request.Tag, isWrite ? Abrt : Unc, request.Offset / SectorSize);
            if ((Status & (Bsy | Drq)) == 0) (Status, Error) = (Drdy | Dsc | Err, isWrite ? Abrt : Unc);
        }
        (Port as IQueuedIdePort)?.QueuedEnded(request.Tag, written, failed);
        EndRequest();
    }

    /// <param name="tag">Or 80h for a command that has none.</param>
    void KeepError(byte tag, byte error, long lba)
    {
        _queueFailed = true;
        Array.Clear(_queuedError);
        (_queuedError[0], _queuedError[2], _queuedError[3]) = (tag, Drdy | Dsc | Err, error);
        for (int i = 0; i < 3; i++)
            (_queuedError[4 + i], _queuedError[8 + i]) = ((byte)(lba >> (i * 8)), (byte)(lba >> (24 + i * 8)));
    }

    void SendLog()
    {
        if ((SectorCount | HobSectorCount << 8) != 1 || LbaMid != 0 || HobLbaMid != 0) { Fail(Abrt); return; }
        switch (LbaLow)
        {
            case LogDirectory:
                SendSector(static sector => sector[0] = sector[QueuedErrorLog * 2] = 1);   // version; one page
                break;
            case QueuedErrorLog:
                _queueFailed = false;
                SendSector(WriteQueuedError);
                break;
            default: Fail(Abrt); break;
        }
    }

    void WriteQueuedError(Span<byte> sector)
    {
        _queuedError.CopyTo(sector);
        AtaIdentify.SetChecksum(sector);
    }

    void ForgetQueue()
    {
        _queueFailed = false;
        Array.Clear(_queuedError);
    }

    void ExchangeQueue(StateStream state)
    {
        state.Field("queue-failed", ref _queueFailed);
        state.Block("queued-error", _queuedError);
    }

    sealed class QueuedRequest(AtaDrive drive, int tag) : BlockRequest
    {
        public int Tag { get; } = tag;
        public override void Complete(int errno) => drive.EndQueued(this, errno);
    }
}
