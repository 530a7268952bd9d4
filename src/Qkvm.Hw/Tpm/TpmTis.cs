using Qkvm.Core.Devices;
using Qkvm.Core.Irq;
using Qkvm.Core.Memory;
using Qkvm.Core.State;
using Qkvm.Core.Tpm;

namespace Qkvm.Hw.Tpm;

/// <summary>tpm-tis: a TPM behind the FIFO interface. Spec: TCG PC Client Specific TPM Interface Specification (TIS)
/// 1.3, chapters 5 and 6; for TPM 2.0 TCG PC Client Platform TPM Profile (PTP) 1.05, section 6. Names are theirs.
/// </summary>
/// <remarks>Deviations: no physical presence interface (ppi); the hash sequence of locality 4 (HASH_START, HASH_DATA,
/// HASH_END) is ignored; another locality seizes the TPM at once, whatever still executes; a saved state with a
/// command in flight comes back with that command failed.</remarks>
public sealed partial class TpmTis : ITpmDevice, IRegisterBank
{
    public static readonly DeviceModel Model = new("tpm-tis", BusKind.Isa,
        [
            Property.Tpmdev(), Property.Number("irq", 5, max: 15), Property.Missing("ppi", "off"),
        ],
        static (properties, site) =>
        {
            int irq = (int)properties.Number("irq");
            var device = new TpmTis(site.Tpm(properties.Required("tpmdev")), site.Irq(irq), (byte)irq);
            site.MapMemory(TpmAcpi.Address, MemoryRegion.Io(device.Name, Localities * LocalitySize, device,
                AccessSizes.Bytes));
            TpmAcpi.Describe(site, device, (uint)(Localities * LocalitySize));
            return device;
        })
        { Description = "a TPM behind the FIFO interface (TIS)", IsHotPluggable = false };

    const int Localities = 5, NoLocality = 0xFF, LocalitySize = 0x1000, BufferSize = 4096;

    /// <summary>TIS, figure 3 "State transition diagram".</summary>
    enum State : byte { Idle, Ready, Reception, Execution, Completion }

    readonly ITpm _tpm;
    readonly IrqLine _irq;
    readonly byte _vector;
    readonly byte[] _buffer = new byte[BufferSize];
    readonly Locality[] _localities = new Locality[Localities];
    State _state;
    byte _active = NoLocality;
    int _count;                                                    // bytes of the command so far, or of the answer
    int _at;                                                       // of the answer, the next to be read
    uint _execution;                                               // not migrated: tells answers of abandoned commands
    bool _isAbandoned;                                             // the answer in flight is nobody's

    /// <summary>What each locality has of its own.</summary>
    struct Locality
    {
        public bool RequestsUse, WasSeized;
        public uint IntEnable, IntStatus;
    }

    public TpmTis(ITpm tpm, IrqLine irq, byte vector)
    {
        (_tpm, _irq, _vector) = (tpm, irq, vector);
        Clear();
    }

    public string Name => Model.Name;
    public ITpm Tpm => _tpm;
    string ITpmDevice.Model => Model.Name;
    public ulong ControlArea => 0;
    public uint StartMethod => 6;                                  // memory mapped I/O (TIS)

    public void Reset()
    {
        Clear();
        _tpm.Start(BufferSize);
    }

    public void Exchange(StateStream state)
    {
        byte phase = (byte)_state;
        bool level = _irq.Level;
        state.Field("state", ref phase);
        state.Field("active", ref _active);
        state.Field("count", ref _count, 0, BufferSize);
        state.Field("at", ref _at, 0, BufferSize);
        state.Field("abandoned", ref _isAbandoned);
        state.Field("irq", ref level);
        state.Block("buffer", _buffer);
        for (int i = 0; i < Localities; i++)
        {
            StateStream group = state.Group("locality", i);
            ref Locality locality = ref _localities[i];
            group.Field("requests-use", ref locality.RequestsUse);
            group.Field("was-seized", ref locality.WasSeized);
            group.Field("int-enable", ref locality.IntEnable);
            group.Field("int-status", ref locality.IntStatus);
        }
        if (!state.IsLoading) return;
        if (phase > (byte)State.Completion) throw state.Refuse("state", $"{phase} is none");
        if (_active is >= Localities and not NoLocality) throw state.Refuse("active", $"{_active} is no locality");
        if (_at > _count) throw state.Refuse("at", $"{_at} lies behind {_count}");
        _state = (State)phase;
        _irq.Restore(level);
        _execution++;
        if (_state == State.Execution) Take(TpmCommand.Failure(_tpm.Version));  // no edge: who waits looks in the end
    }

    void Clear()
    {
        (_state, _active, _count, _at, _isAbandoned) = (State.Idle, NoLocality, 0, 0, false);
        _execution++;
        Array.Clear(_buffer);
        for (int i = 0; i < Localities; i++) _localities[i] = new Locality { IntEnable = ResetIntEnable };
        _irq.Set(false);
    }

    /// <summary>tpmGo: the answer comes by an event.</summary>
    void Execute()
    {
        uint execution = ++_execution;
        (_state, _isAbandoned) = (State.Execution, false);
        _tpm.Execute(_active, _buffer.AsSpan(0, _count), answer =>
        {
            if (execution == _execution) Complete(answer.Span);
        });
    }

    void Complete(ReadOnlySpan<byte> answer)
    {
        Take(answer);
        Raise(_state == State.Ready ? CommandReadyInt : DataAvailInt | StsValidInt);
    }

    void Take(ReadOnlySpan<byte> answer)
    {
        (_state, _count, _at) = (_isAbandoned ? State.Ready : State.Completion, 0, 0);
        if (!_isAbandoned)
        {
            _count = Math.Min(answer.Length, BufferSize);
            answer[.._count].CopyTo(_buffer);
        }
        _isAbandoned = false;
    }

    void BecomeReady()
    {
        (_state, _count, _at) = (State.Ready, 0, 0);
        Raise(CommandReadyInt);
    }

    /// <summary>The use of the TPM passes on; what the last locality had begun is lost.</summary>
    void Activate(byte locality)
    {
        if (_state == State.Execution) _tpm.Cancel();
        _execution++;
        (_active, _state, _count, _at, _isAbandoned) = (locality, State.Idle, 0, 0, false);
        if (locality == NoLocality) return;
        _localities[locality].RequestsUse = false;
        Raise(LocalityChangeInt);
    }

    /// <summary>The active locality's interrupt, where it wants it.</summary>
    void Raise(uint what)
    {
        if (_active == NoLocality) return;
        ref Locality locality = ref _localities[_active];
        if ((locality.IntEnable & GlobalIntEnable) == 0 || (locality.IntEnable & what) == 0) return;
        locality.IntStatus |= what & locality.IntEnable;
        _irq.Set(true);
    }
}
