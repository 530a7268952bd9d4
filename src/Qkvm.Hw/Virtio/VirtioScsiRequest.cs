using System.Buffers.Binary;
using Qkvm.Core.Block;
using Qkvm.Core.Virtio;
using Qkvm.Hw.Scsi;
using Qkvm.Hw.Storage;

namespace Qkvm.Hw.Virtio;

/// <summary>One request of a virtio SCSI host, from its chain to its response. Virtio 1.2, section 5.6.6.1.</summary>
sealed class VirtioScsiRequest : BlockRequest
{
    // struct virtio_scsi_req_cmd: u8 lun[8], le64 id, u8 task_attr, prio, crn, cdb[cdb_size], data-out;
    // le32 sense_len, residual, le16 status_qualifier, u8 status, response, sense[sense_size], data-in
    public const int IdAt = 8, CdbAt = 19, SenseAt = 12;
    const int ResidualAt = 4, StatusAt = 10, ResponseAt = 11;
    const byte Ok = 0, Overrun = 1, Aborted = 2, BadTarget = 3, WasReset = 4, Failure = 9;

    readonly VirtioScsiQueue _home;
    readonly Action _runLocked;
    readonly byte[] _cdb = new byte[ScsiCdb.MaxLength];
    MediumWork? _work;                                               // made when first needed
    Virtqueue _queue = null!;
    DescriptorChain _chain = null!;
    ScsiCommand _command;
    int _headerLength, _responseLength;
    bool _isLocked;                                                // on the main loop, which looks at no queue

    public VirtioScsiRequest(VirtioScsiQueue home) => (_home, _runLocked) = (home, RunLocked);

    public int Target { get; private set; }
    public int Lun { get; private set; }
    public ulong Tag { get; private set; }

    /// <summary>Among those of its queue. Within the queue's gate, as the next.</summary>
    public int Place { get; set; }

    /// <summary>What aborts it; null: nothing.</summary>
    public VirtioScsiTask? Task { get; set; }

    VirtioScsi Host => _home.Host;
    long DataOut => _chain.ReadableLength - _headerLength;
    long DataIn => _chain.WritableLength - _responseLength;

    public void Begin(Virtqueue queue, DescriptorChain chain)
    {
        (_queue, _chain, _command, _isLocked, Task) = (queue, chain, default, false, null);
        (_headerLength, _responseLength) = (Host.HeaderLength, Host.ResponseLength);
        Span<byte> header = stackalloc byte[CdbAt + ScsiCdb.MaxLength];
        chain.Readable.Slice(0, header.Length).CopyTo(header);
        Tag = BinaryPrimitives.ReadUInt64LittleEndian(header[IdAt..]);
        header[CdbAt..].CopyTo(_cdb);
        bool isNamed = VirtioScsiLun.TryRead(header, out int target, out int lun);
        (Target, Lun) = (target, lun);
        ScsiDevice? device = isNamed ? Host.Bus.Find(target, lun) : null;
        if (device == null) Respond(BadTarget);
        else if (DataOut > 0 && DataIn > 0) Respond(Failure);      // not offered: VIRTIO_SCSI_F_INOUT
        else if (device.Unit.Lun != lun || !device.Unit.TryMove(_cdb, out _command)) Host.Post(_runLocked);
        else if (IsOverrun) Respond(Overrun);
        else
        {
            Prepare();
            ((BlockQueue)device.AtHost!).Submit(this);
        }
    }

    /// <summary>The initiator gave less room than the command block says.</summary>
    bool IsOverrun => _command.Length > (_command.IsToHost ? DataIn : _command.IsToDisk ? DataOut : long.MaxValue);

    void Prepare()
    {
        (Operation, Offset, Length, Fua) = (_command.Operation, _command.Offset, _command.Length, _command.Fua);
        Buffers = _command.Action switch
        {
            ScsiAction.Read => _chain.Writable.Slice(_responseLength, _command.Length),
            ScsiAction.Write => _chain.Readable.Slice(_headerLength, _command.Length),
            _ => default,
        };
    }

    /// <summary>On the main loop: any command.</summary>
    void RunLocked()
    {
        _isLocked = true;
        if (Host.Bus.Find(Target, Lun) is not { } device) { Respond(BadTarget); return; }
        ScsiUnit unit = device.Unit;
        _command = unit.Begin(_cdb, Lun);
        if (_command.Status != ScsiStatus.Good) Respond(Ok, unit.TakeSense());
        else if (IsOverrun) Respond(Overrun);
        else
            switch (_command.Action)
            {
                case ScsiAction.None: Respond(Ok); break;
                case ScsiAction.Answer: Answer(unit); break;
                case ScsiAction.Parameters: Obey(unit); break;
                default:
                    Prepare();
                    unit.Backend.Submit(this);
                    break;
            }
    }

    void Answer(ScsiUnit unit)
    {
        ReadOnlySpan<byte> answer = unit.Answer(out ScsiStatus status);
        int count = (int)Math.Min(answer.Length, _command.Length);
        _chain.Writable.Slice(_responseLength, count).CopyFrom(answer[..count]);
        if (status != ScsiStatus.Good) Respond(Ok, unit.TakeSense());
        else Respond(Ok, ScsiSense.None, count);
    }

    void Obey(ScsiUnit unit)
    {
        byte[] parameters = new byte[_command.Length];             // a page or a block
        _chain.Readable.Slice(_headerLength, parameters.Length).CopyTo(parameters);
        _work ??= new MediumWork(Complete);
        if (unit.Obey(parameters, _work) != ScsiStatus.Good) Respond(Ok, unit.TakeSense());
        else if (_work.IsEmpty) Respond(Ok, ScsiSense.None, parameters.Length);
        else _work.Start(unit.Backend);
    }

    public override void Complete(int errno)
    {
        Buffers = default;
        if (errno == 0) Respond(Ok, ScsiSense.None, _command.Length);
        else Respond(Ok, ScsiSense.Of(errno, _command.Action == ScsiAction.Read));
    }

    /// <param name="moved">Bytes of data.</param>
    void Respond(byte response, ScsiSense sense = default, long moved = 0)
    {
        if (_home.TaskOf(this) is { } task) response = task.IsReset ? WasReset : Aborted;
        bool isIn = DataIn > 0;
        Span<byte> field = stackalloc byte[SenseAt + ScsiSense.FixedSize];
        field.Clear();
        if (response != Ok) (sense, moved) = (ScsiSense.None, 0);
        int senseLength = sense.IsNone ? 0
            : sense.WriteFixed(field[SenseAt..Math.Min(field.Length, _responseLength)]);
        BinaryPrimitives.WriteInt32LittleEndian(field, senseLength);
        BinaryPrimitives.WriteUInt32LittleEndian(field[ResidualAt..], (uint)((isIn ? DataIn : DataOut) - moved));
        field[StatusAt] = (byte)(sense.IsNone ? ScsiStatus.Good : ScsiStatus.CheckCondition);
        field[ResponseAt] = response;
        int count = Math.Min(SenseAt + senseLength, _responseLength);
        _chain.Writable.Slice(0, count).CopyFrom(field[..count]);
        // all that the medium may have written, whatever became of it
        uint written = (uint)(_responseLength + (_command.Action == ScsiAction.Read ? _command.Length
            : isIn ? moved : 0));
        bool isLocked = _isLocked;
        _home.Finished(this, _queue, _chain, Math.Min(written, _chain.WritableLength));
        if (isLocked) _home.SignalNow();
    }
}
