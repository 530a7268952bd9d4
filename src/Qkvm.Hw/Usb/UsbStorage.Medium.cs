using Qkvm.Core.Block;
using Qkvm.Core.State;
using Qkvm.Core.Usb;
using Qkvm.Hw.Scsi;

namespace Qkvm.Hw.Usb;

/// <summary>What the medium does meanwhile, and state.</summary>
public sealed partial class UsbStorage
{
    /// <summary>The only one, again and again.</summary>
    sealed class MediumRequest(UsbStorage owner) : BlockRequest
    {
        public override void Complete(int errno) => owner.Done(errno);
    }

    void Start(BlockOperation operation, long offset, long length)
    {
        _isBusy = true;
        (_request.Operation, _request.Offset, _request.Length) = (operation, offset, length);
        _request.Fua = operation == BlockOperation.Write && _command.Fua;
        _request.Buffers = operation is BlockOperation.Read or BlockOperation.Write
            ? new ScatterList(_chunk.AsMemory(0, (int)length)) : default;
        if (operation == BlockOperation.Read) _disk.Backend.SubmitNow(_request);
        else _disk.Backend.Submit(_request);
    }

    void Done(int errno)
    {
        _isBusy = false;
        if (_isAbandoned) _isAbandoned = false;
        else if (_disk.Finish(_command, errno) != ScsiStatus.Good) Fail();
        else
        {
            long count = _request.Operation is BlockOperation.Read or BlockOperation.Write ? _request.Length : 0;
            _offset += count;
            _diskLeft -= count;
            (_start, _end) = (0, _request.Operation == BlockOperation.Read ? (int)count : 0);
        }
        GoOn();
    }

    void WorkDone(int errno)
    {
        _isBusy = false;
        if (_isAbandoned) _isAbandoned = false;
        else if (_disk.Finish(_command, errno) != ScsiStatus.Good) Fail();
        GoOn();
    }

    void Fail()
    {
        _status = Failed;
        (_start, _end, _diskLeft) = (0, 0, 0);
    }

    void GoOn()
    {
        if (_packet is not { } packet) return;
        _packet = null;
        UsbStatus status = packet.Token == UsbToken.In ? Send(packet) : Receive(packet);
        if (status == UsbStatus.Pending) _packet = packet;
        else packet.Complete(status);
    }

    protected override void ExchangeDevice(StateStream state)
    {
        if (_isBusy) throw new InvalidStateException($"{Name}: requests are in flight");
        byte phase = (byte)_phase, action = (byte)_command.Action;
        bool isFua = _command.Fua;
        byte[] data = state.IsLoading ? [] : _chunk[_start.._end];
        state.Field("phase", ref phase);
        state.Field("tag", ref _tag);
        state.Field("status", ref _status);
        state.Field("action", ref action);
        state.Field("fua", ref isFua);
        state.Field("host-left", ref _hostLeft);
        state.Field("disk-left", ref _diskLeft);
        state.Field("offset", ref _offset);
        state.Field("residue", ref _residue);
        state.Blob("data", ref data, ChunkSize);
        _disk.Exchange(state.Group("scsi"));
        if (phase > (byte)Phase.Broken) throw state.Refuse("phase", $"{phase} is none");
        if (action > (byte)ScsiAction.Verify) throw state.Refuse("action", $"{action} is none");
        if (_hostLeft is < 0 or > uint.MaxValue) throw state.Refuse("host-left", $"{_hostLeft} bytes");
        if (_diskLeft is < 0 or > uint.MaxValue) throw state.Refuse("disk-left", $"{_diskLeft} bytes");
        if (_offset < 0) throw state.Refuse("offset", $"{_offset} is before the medium");
        if (!state.IsLoading) return;
        (_phase, _command) = ((Phase)phase, new ScsiCommand((ScsiAction)action, ScsiStatus.Good, Fua: isFua));
        data.CopyTo(_chunk, 0);
        (_start, _end) = (0, data.Length);
    }
}
