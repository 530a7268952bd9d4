using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Usb;

/// <summary>usb-storage: a <see cref="ScsiDisk"/> behind bulk-only transport. Spec: USB Mass Storage Class, Bulk-Only
/// Transport 1.0; names are its.</summary>
/// <remarks>Data go through a buffer, in large requests to the medium whatever the size of the host's packets. Where
/// the host wants more than there is, it gets a short packet or zeros; where it brings more, that is taken and
/// forgotten.</remarks>
public sealed partial class UsbStorage : UsbDevice, IDevice
{
    const uint CommandSignature = 0x43425355, StatusSignature = 0x53425355;
    const int CommandLength = 31, StatusLength = 13, ChunkSize = 256 << 10;
    const byte InEndpoint = UsbEndpoint.In | 1, OutEndpoint = 2;
    const byte Passed = 0, Failed = 1, PhaseError = 2;             // bCSWStatus, table 5.3
    const ushort GetMaxLun = 0xA1FE, MassStorageReset = 0x21FF;

    enum Phase : byte { Command, DataIn, DataOut, Status, Broken }

    readonly ScsiDisk _disk;
    readonly MediumRequest _request;
    readonly MediumWork _work;                                       // not migrated: used while busy alone
    readonly byte[] _chunk = new byte[ChunkSize];                  // from _start to _end: data on their way
    int _start, _end;
    Phase _phase;
    uint _tag;
    byte _status;
    ScsiCommand _command;
    long _hostLeft;                                                // bytes that the host still wants or brings
    long _diskLeft;                                                // bytes that the medium still gives or takes
    long _offset;                                                  // where on the medium
    uint _residue;                                                 // dCSWDataResidue
    UsbPacket? _packet;                                            // not migrated: nothing is in flight while saving
    bool _isBusy, _isAbandoned;                                    // the medium works, for nobody; not migrated

    public UsbStorage(string name, Properties properties, ScsiDisk disk) : base(name, s_description, properties)
    {
        _disk = disk;
        _request = new MediumRequest(this);
        _work = new MediumWork(WorkDone);
    }

    public string BootPathEnd => "/channel@0/disk@0,0";

    protected override void ResetDevice()
    {
        _disk.Reset();
        Abandon();
        (_start, _end, _tag, _status, _command) = (0, 0, 0, 0, default);
        (_hostLeft, _diskLeft, _offset, _residue) = (0, 0, 0, 0);
    }

    protected override int AnswerRequest(in UsbSetup setup, Span<byte> answer)
    {
        if (setup.Code != GetMaxLun || answer.Length == 0) return Stall;
        answer[0] = 0;
        return 1;
    }

    protected override bool ObeyRequest(in UsbSetup setup, ReadOnlySpan<byte> data)
    {
        if (setup.Code != MassStorageReset) return false;
        Abandon();
        return true;
    }

    /// <summary>The next packet is a command; what the medium is doing ends for nobody.</summary>
    void Abandon()
    {
        _phase = Phase.Command;
        _isAbandoned = _isBusy;
        if (_packet is not { } waiting) return;
        _packet = null;
        waiting.Complete(UsbStatus.IoError);
    }

    protected override void CancelTransfer(UsbPacket packet)
    {
        if (_packet == packet) _packet = null;
    }

    protected override UsbStatus Transfer(UsbPacket packet)
    {
        UsbStatus status = packet.Token == UsbToken.In ? Send(packet) : Receive(packet);
        if (status == UsbStatus.Pending) _packet = packet;
        return status;
    }

    UsbStatus Receive(UsbPacket packet)
    {
        if (_packet != null) return UsbStatus.Stall;               // another one waits
        return _phase switch
        {
            Phase.Command => _isAbandoned ? UsbStatus.Pending : Begin(packet),
            Phase.DataOut => ReceiveData(packet),
            _ => UsbStatus.Stall,
        };
    }

    UsbStatus Send(UsbPacket packet)
    {
        if (_packet != null) return UsbStatus.Stall;
        return _phase switch
        {
            Phase.DataIn => SendData(packet),
            Phase.Status => _isBusy ? UsbStatus.Pending : SendStatus(packet),
            _ => UsbStatus.Stall,
        };
    }

    /// <summary>A command block wrapper, section 5.1; what is none breaks the transport until it is reset (6.6.1).
    /// </summary>
    UsbStatus Begin(UsbPacket packet)
    {
        Span<byte> wrapper = stackalloc byte[CommandLength];
        bool isWhole = packet.Length == CommandLength && packet.Take(wrapper) == CommandLength;
        int length = wrapper[14] & 0x1F;
        if (!isWhole || BinaryPrimitives.ReadUInt32LittleEndian(wrapper) != CommandSignature
            || length is 0 or > ScsiCdb.MaxLength)
        {
            _phase = Phase.Broken;
            return UsbStatus.Stall;
        }
        _tag = BinaryPrimitives.ReadUInt32LittleEndian(wrapper[4..]);
        _residue = BinaryPrimitives.ReadUInt32LittleEndian(wrapper[8..]);
        bool isToHost = (wrapper[12] & 0x80) != 0;
        Begin(_disk.Begin(wrapper.Slice(15, length), wrapper[13] & 15), isToHost);
        return UsbStatus.Success;
    }

    /// <summary>The thirteen cases of section 6.7: host and device agree, or the host's word counts.</summary>
    void Begin(ScsiCommand command, bool isToHost)
    {
        (_command, _hostLeft, _diskLeft, _offset) = (command, _residue, 0, command.Offset);
        (_start, _end) = (0, 0);
        _status = command.Status == ScsiStatus.Good ? Passed : Failed;
        bool disagrees = _hostLeft > 0 && (isToHost ? command.IsToDisk : command.IsToHost);
        bool isLonger = command.Length > _hostLeft && command.Action != ScsiAction.Answer;
        if (disagrees || isLonger) (_status, _command) = (PhaseError, default);
        else if (command.Action == ScsiAction.Answer) PutAnswer();
        else if (command.Action is ScsiAction.Flush or ScsiAction.Verify) Start(BlockOperation.Flush, 0, 0);
        else _diskLeft = command.Length;
        _phase = _hostLeft == 0 ? Phase.Status : isToHost ? Phase.DataIn : Phase.DataOut;
        if (_phase == Phase.DataIn) ReadMore();
    }

    void PutAnswer()
    {
        ReadOnlySpan<byte> answer = _disk.Answer(out ScsiStatus status);
        if (status != ScsiStatus.Good) _status = Failed;
        _end = (int)Math.Min(answer.Length, Math.Min(_command.Length, _hostLeft));
        answer[.._end].CopyTo(_chunk);
    }

    UsbStatus SendData(UsbPacket packet)
    {
        int room = (int)Math.Min(packet.Room, _hostLeft);
        while (room > 0 && _start < _end)
        {
            int count = packet.Put(_chunk.AsSpan(_start, Math.Min(room, _end - _start)));
            _start += count;
            room -= count;
            _hostLeft -= count;
            _residue -= (uint)count;
            if (_start == _end) ReadMore();
        }
        if (room > 0 && _isBusy) return UsbStatus.Pending;
        bool isShort = room > 0 && packet.Actual > 0;
        if (room > 0 && !isShort)
        {
            if (_status == PhaseError)
            {
                _phase = Phase.Status;
                return UsbStatus.Stall;
            }
            Pad(packet, room);
        }
        if (_hostLeft == 0 || isShort) _phase = Phase.Status;
        return UsbStatus.Success;
    }

    /// <summary>Zeros where there is nothing: SeaBIOS does not recover from a stall, and section 6.7.2 leaves the
    /// choice.</summary>
    void Pad(UsbPacket packet, int room)
    {
        _chunk.AsSpan(0, Math.Min(room, ChunkSize)).Clear();
        for (int count; room > 0; room -= count)
        {
            count = packet.Put(_chunk.AsSpan(0, Math.Min(room, ChunkSize)));
            if (count == 0) return;
            _hostLeft -= count;
        }
    }

    void ReadMore()
    {
        if (_diskLeft == 0 || _isBusy) return;
        int count = (int)Math.Min(_diskLeft, ChunkSize);
        (_start, _end) = (0, 0);
        Start(BlockOperation.Read, _offset, count);
    }

    UsbStatus ReceiveData(UsbPacket packet)
    {
        if (packet.Length > _hostLeft + packet.Actual) return UsbStatus.Stall;
        while (packet.Room > 0 && !_isBusy)
        {
            int wanted = (int)Math.Min(_diskLeft - _end, ChunkSize - _end);
            int count = wanted == 0 ? packet.Room : packet.Take(_chunk.AsSpan(_end, wanted));
            if (wanted == 0) packet.Advance(count);                // more than the device wants
            else _residue -= (uint)count;
            if (wanted > 0) _end += count;
            _hostLeft -= count;
            if (_end > 0 && (_end == ChunkSize || _end == _diskLeft)) WriteOut();
        }
        if (packet.Room > 0) return UsbStatus.Pending;
        if (_hostLeft == 0) _phase = Phase.Status;
        return UsbStatus.Success;
    }

    void WriteOut()
    {
        if (_command.Action == ScsiAction.Write)
        {
            Start(BlockOperation.Write, _offset, _end);
            return;
        }
        if (_disk.Obey(_chunk.AsSpan(0, _end), _work) != ScsiStatus.Good) _status = Failed;
        (_end, _diskLeft) = (0, 0);
        if (_work.IsEmpty) return;
        _isBusy = true;
        _work.Start(_disk.Backend);
    }

    UsbStatus SendStatus(UsbPacket packet)
    {
        Span<byte> status = stackalloc byte[StatusLength];
        BinaryPrimitives.WriteUInt32LittleEndian(status, StatusSignature);
        BinaryPrimitives.WriteUInt32LittleEndian(status[4..], _tag);
        BinaryPrimitives.WriteUInt32LittleEndian(status[8..], _residue);
        status[12] = _status;
        packet.Put(status);
        _phase = Phase.Command;
        return UsbStatus.Success;
    }
}
