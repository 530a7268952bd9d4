using System.Buffers.Binary;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Tpm;

namespace Qkvm.Hw.Tpm;

/// <summary>tpm-crb: a TPM 2.0 behind the command response buffer. Spec: TCG PC Client Platform TPM Profile (PTP) 1.05,
/// section 6.5.3; names are its.</summary>
/// <remarks>Deviations: locality 0 alone, and no interrupts, as on QEMU; no physical presence interface (ppi); a saved
/// state with a command in flight comes back with that command failed.</remarks>
public sealed class TpmCrb : ITpmDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("tpm-crb", BusKind.System,
        [Property.Tpmdev(), Property.Missing("ppi", "off")],
        static (properties, site) =>
        {
            ITpm tpm = site.Tpm(properties.Required("tpmdev"));
            if (tpm.Version != TpmVersion.V20)
                throw properties.Error($"{Model!.Name} is of TPM 2.0, and tpmdev '{tpm.Id}' is a TPM 1.2; use tpm-tis");
            var device = new TpmCrb(tpm);
            site.MapMemory(TpmAcpi.Address, MemoryRegion.Io(device.Name, Size, device, AccessSizes.Bytes));
            TpmAcpi.Describe(site, device, Size);
            return device;
        })
        { Description = "a TPM 2.0 behind the command response buffer (CRB)", IsHotPluggable = false };

    // Registers, PTP table 36
    const int LocState = 0x00, LocCtrl = 0x08, LocSts = 0x0C, IntfId = 0x30, IntfIdHigh = 0x34, CtrlReq = 0x40,
        CtrlSts = 0x44, CtrlCancel = 0x48, CtrlStart = 0x4C, CtrlCmdSize = 0x58, CtrlCmdLaddr = 0x5C,
        CtrlRspSize = 0x64, CtrlRspAddr = 0x68, DataBuffer = 0x80, Size = 0x1000;
    const int BufferSize = Size - DataBuffer;

    const uint Established = 1 << 0, LocAssigned = 1 << 1, RegValid = 1 << 7;           // LOC_STATE
    const byte RequestAccess = 1 << 0, Relinquish = 1 << 1;                             // LOC_CTRL
    const uint Granted = 1 << 0;                                                        // LOC_STS
    const byte CmdReady = 1 << 0, GoIdle = 1 << 1;                                      // CTRL_REQ
    const uint TpmIdle = 1 << 1;                                                        // CTRL_STS
    const byte Cancel = 1, Start = 1;                                                   // CTRL_CANCEL, CTRL_START

    // INTF_ID: CRB version 1, transfers of 64 bytes, no other interface to select; vendor and device
    const uint InterfaceCrb = 1 | 1 << 4 | 3 << 11 | 1 << 14 | 1 << 17 | 1 << 19, DidVid = 0x0001_1014;

    readonly ITpm _tpm;
    readonly byte[] _buffer = new byte[BufferSize];
    bool _isAssigned, _isReady, _isCancelled, _isExecuting;
    uint _execution;                                               // not migrated: tells answers from before a reset

    public TpmCrb(ITpm tpm) => _tpm = tpm;

    public string Name => Model.Name;
    public ITpm Tpm => _tpm;
    string ITpmDevice.Model => Model.Name;
    public ulong ControlArea => TpmAcpi.Address + CtrlReq;
    public uint StartMethod => 7;                                  // command response buffer

    public void Reset()
    {
        _isAssigned = _isReady = _isCancelled = _isExecuting = false;
        _execution++;
        Array.Clear(_buffer);
        _tpm.Start(BufferSize);
    }

    public ulong Read(ulong offset, int size)
    {
        int at = (int)offset;
        return at >= DataBuffer ? _buffer[at - DataBuffer] : (byte)(Register(at & ~3) >> (at & 3) * 8);
    }

    public void Write(ulong offset, int size, ulong value)
    {
        byte data = (byte)value;
        switch ((int)offset)                                       // what can be written lies in lowest bytes
        {
            case >= DataBuffer and int at:
                if (!_isExecuting) _buffer[at - DataBuffer] = data;
                break;
            case LocCtrl when data == RequestAccess: _isAssigned = true; break;
            case LocCtrl when data == Relinquish: _isAssigned = false; break;
            case CtrlReq when data == CmdReady: _isReady = true; break;
            case CtrlReq when data == GoIdle: _isReady = false; break;
            case CtrlCancel:
                _isCancelled = data == Cancel;
                if (_isCancelled && _isExecuting) _tpm.Cancel();
                break;
            case CtrlStart when data == Start && _isAssigned && !_isExecuting: Execute(); break;
        }
    }

    public void Exchange(StateStream state)
    {
        state.Field("assigned", ref _isAssigned);
        state.Field("ready", ref _isReady);
        state.Field("cancelled", ref _isCancelled);
        state.Field("executing", ref _isExecuting);
        state.Block("buffer", _buffer);
        if (!state.IsLoading) return;
        _execution++;
        if (_isExecuting) Complete(TpmCommand.Failure(_tpm.Version));
    }

    uint Register(int register) => register switch
    {
        LocState => RegValid | (_isAssigned ? LocAssigned : 0) | (_tpm.IsEstablished ? 0 : Established),
        LocSts => _isAssigned ? Granted : 0,
        IntfId => InterfaceCrb,
        IntfIdHigh => DidVid,
        CtrlSts => _isReady ? 0 : TpmIdle,
        CtrlCancel => _isCancelled ? 1u : 0,
        CtrlStart => _isExecuting ? 1u : 0,
        CtrlCmdSize or CtrlRspSize => BufferSize,
        CtrlCmdLaddr or CtrlRspAddr => TpmAcpi.Address + DataBuffer,
        _ => 0,
    };

    /// <summary>The answer comes by an event, and replaces the command.</summary>
    void Execute()
    {
        uint execution = ++_execution;
        _isExecuting = true;
        int length = (int)Math.Min(BinaryPrimitives.ReadUInt32BigEndian(_buffer.AsSpan(TpmCommand.LengthOffset)),
            BufferSize);
        _tpm.Execute(0, _buffer.AsSpan(0, length), answer =>
        {
            if (execution == _execution) Complete(answer.Span);
        });
    }

    void Complete(ReadOnlySpan<byte> answer)
    {
        answer[..Math.Min(answer.Length, BufferSize)].CopyTo(_buffer);
        _isExecuting = false;
    }
}
