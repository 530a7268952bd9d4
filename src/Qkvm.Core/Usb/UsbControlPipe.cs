using Qkvm.Core.State;

namespace Qkvm.Core.Usb;

/// <summary>Endpoint 0 of a device: setup, data and status stages. USB 2.0, sections 8.5.3 and 9.2.6.</summary>
/// <remarks>A request to the device is carried out in its status stage, when all its data are there; one to the host
/// when it is set up. Requests with more than <see cref="BufferSize"/> bytes to the device are refused, and answers are
/// cut to it.</remarks>
sealed class UsbControlPipe(UsbDevice device)
{
    public const int BufferSize = 4096;

    enum Stage : byte { Idle, DataIn, DataOut, StatusIn, Stalled }

    readonly byte[] _setup = new byte[UsbSetup.Size];
    readonly byte[] _buffer = new byte[BufferSize];
    Stage _stage;
    int _length, _index;                                           // of the data stage

    public void Reset()
    {
        _stage = Stage.Idle;
        _length = _index = 0;
        Array.Clear(_setup);
        Array.Clear(_buffer);
    }

    public UsbStatus Handle(UsbPacket packet) => packet.Token switch
    {
        UsbToken.Setup => Begin(packet),
        UsbToken.In => Send(packet),
        _ => Receive(packet),
    };

    public void Exchange(StateStream state)
    {
        byte stage = (byte)_stage;
        state.Field("stage", ref stage);
        state.Field("length", ref _length, 0, BufferSize);
        state.Field("index", ref _index, 0, BufferSize);
        state.Block("setup", _setup);
        state.Block("data", _buffer);
        if (stage > (byte)Stage.Stalled) throw state.Refuse("stage", $"{stage} is none");
        if (_index > _length) throw state.Refuse("index", $"{_index} lies beyond {_length}");
        _stage = (Stage)stage;
    }

    UsbStatus Begin(UsbPacket packet)
    {
        if (packet.Length != UsbSetup.Size) return UsbStatus.Stall;
        packet.Take(_setup);
        UsbSetup setup = UsbSetup.Read(_setup);
        _index = 0;
        if (setup.IsIn)
        {
            int room = Math.Min((int)setup.Length, BufferSize);
            _buffer.AsSpan(0, room).Clear();
            int count = device.Answer(setup, _buffer.AsSpan(0, room));
            _stage = count < 0 ? Stage.Stalled : Stage.DataIn;
            _length = Math.Max(count, 0);
        }
        else
        {
            _length = Math.Min((int)setup.Length, BufferSize);
            _stage = setup.Length > BufferSize ? Stage.Stalled : setup.Length == 0 ? Stage.StatusIn : Stage.DataOut;
        }
        return UsbStatus.Success;
    }

    UsbStatus Send(UsbPacket packet)
    {
        switch (_stage)
        {
            case Stage.DataIn:
                _index += packet.Put(_buffer.AsSpan(_index, _length - _index));
                return UsbStatus.Success;
            case Stage.StatusIn:
                bool isDone = device.Obey(UsbSetup.Read(_setup), _buffer.AsSpan(0, _length));
                _stage = isDone ? Stage.Idle : Stage.Stalled;
                return isDone ? UsbStatus.Success : UsbStatus.Stall;
            default: return UsbStatus.Stall;
        }
    }

    UsbStatus Receive(UsbPacket packet)
    {
        switch (_stage)
        {
            case Stage.DataOut:
                _index += packet.Take(_buffer.AsSpan(_index, _length - _index));
                if (packet.Room > 0)                               // more than was announced
                {
                    _stage = Stage.Stalled;
                    return UsbStatus.Stall;
                }
                if (_index == _length) _stage = Stage.StatusIn;
                return UsbStatus.Success;
            case Stage.DataIn:                                     // the status stage, perhaps before all was read
                _stage = Stage.Idle;
                return UsbStatus.Success;
            default: return UsbStatus.Stall;
        }
    }
}
