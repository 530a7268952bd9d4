using Qkvm.Core.Block;
using Qkvm.Core.Devices;
using Qkvm.Core.Memory;
using Qkvm.Core.Pci;
using Qkvm.Core.State;

namespace Qkvm.Hw.Nvme;

/// <summary>What shapes a controller.</summary>
/// <param name="MaxTransfer">MDTS: a power of two of pages of 4 KiB, 0 for no limit.</param>
/// <param name="EventRequests">AERL: one less than there may be.</param>
public sealed record NvmeOptions(string Serial, int IoQueues = 64, int Vectors = 65, int MaxTransfer = 7,
    int EventRequests = 3, bool IsExpress = false, bool IsIntegrated = false);

/// <summary>An NVM Express controller and its namespaces. Spec: NVM Express 1.4; names are its.</summary>
/// <remarks>Deviations: no SGLs, metadata, fused commands, zoned namespaces, shadow doorbells, controller memory
/// buffer, namespace management or Format NVM; a command that is being carried out cannot be aborted; arbitration is
/// round robin alone; no error is kept for the log page.</remarks>
public sealed partial class Nvme : PciDevice, IRegisterBank
{
    // Registers, section 3.1
    const int CapLow = 0x00, CapHigh = 0x04, Vs = 0x08, Intms = 0x0C, Intmc = 0x10, Cc = 0x14, Csts = 0x1C, Aqa = 0x24,
        AsqLow = 0x28, AsqHigh = 0x2C, AcqLow = 0x30, AcqHigh = 0x34, Doorbells = 0x1000;
    const uint Version = 0x0001_0400;
    const int MostEntries = 2048, MostPageShift = 4;               // MQES, MPSMAX: 64 KiB
    const uint ContiguousQueues = 1 << 16, Timeout = 15 << 24, NvmCommandSet = 1 << 5;
    const uint Enable = 1, ShutdownMask = 3 << 14;                 // CC
    const uint Ready = 1, FatalStatus = 2, ShutdownDone = 2 << 2;  // CSTS

    const int Page = 4096, PinVectors = 32;
    const int MostInFlight = 1024, Burst = 256;                    // of the whole controller; of one turn

    readonly NvmeOptions _options;
    readonly Action<Action> _post;
    readonly Action _serveLater;
    readonly NvmeNamespace?[] _namespaces = new NvmeNamespace?[MostNamespaces + 1];
    readonly NvmeSubmissionQueue?[] _submission;
    readonly NvmeCompletionQueue?[] _completion;
    readonly int[] _pinned = new int[PinVectors];                  // queues by vector that have entries to be looked at
    readonly Queue<NvmeSubmissionQueue> _line = new();             // those to be served
    readonly Stack<NvmeRequest> _free = new();
    uint _mask, _configuration, _status, _adminSizes;
    ulong _adminSubmission, _adminCompletion;
    int _inFlight;                                                 // not migrated: nothing is in flight while saving
    bool _isStopping;                                              // not migrated: as above; a reset waits
    bool _isServing, _isPosted;                                    // not migrated: within a call; a turn is to come

    /// <param name="post">Runs work on the main loop under the machine lock.</param>
    public Nvme(string name, NvmeOptions options, Action<Action> post)
        : base(new PciIdentity(0x1B36, 0x0010, 0x010802, Revision: 2), name, options.IsExpress)
    {
        (_options, _post, _serveLater) = (options, post, ServeLater);
        _submission = new NvmeSubmissionQueue?[options.IoQueues + 1];
        _completion = new NvmeCompletionQueue?[options.IoQueues + 1];
        ulong registers = RoundUp(Doorbells + 8UL * (ulong)_submission.Length);
        ulong table = RoundUp(16UL * (ulong)options.Vectors), size = registers + table + Page;
        var bar = MemoryRegion.Container($"{name}-bar0", System.Numerics.BitOperations.RoundUpToPowerOf2(size));
        bar.Map(0, MemoryRegion.Io(name, registers, this, new AccessSizes(1, 8, 4, 4)));
        if (options.IsExpress)
            _ = new PciExpress(Config, options.IsIntegrated ? ExpressKind.IntegratedEndpoint : ExpressKind.Endpoint,
                ExpressLink.Slowest);
        MsiX = new MsiX(this, options.Vectors, 0, (uint)registers, (uint)(registers + table));
        bar.Map(registers, MsiX.TableRegion);
        bar.Map(registers + table, MsiX.PendingRegion);
        Bar(0, bar, BarKind.Memory64);
        ResetController(isPowerOn: true);

        static ulong RoundUp(ulong bytes) => (bytes + Page - 1) & ~(Page - 1UL);
    }

    public override string BootPathEnd => FindFrom(0) is { } first ? $"/namespace@{first.Id:x},0" : "";

    internal int PageSize => Page << (int)(_configuration >> 7 & 0xF);

    /// <summary>Of one command, in bytes.</summary>
    internal long MostData => _options.MaxTransfer == 0 ? long.MaxValue : (long)Page << _options.MaxTransfer;

    protected override void ResetDevice() => ResetController(isPowerOn: true);

    public ulong Read(ulong offset, int size) => (int)offset switch
    {
        CapLow => MostEntries - 1 | ContiguousQueues | Timeout,
        CapHigh => NvmCommandSet | MostPageShift << 20,
        Vs => Version,
        Intms or Intmc => _mask,
        Cc => _configuration,
        Csts => _status,
        Aqa => _adminSizes,
        AsqLow => (uint)_adminSubmission,
        AsqHigh => _adminSubmission >> 32,
        AcqLow => (uint)_adminCompletion,
        AcqHigh => _adminCompletion >> 32,
        _ => 0,
    };

    public void Write(ulong offset, int size, ulong value)
    {
        uint word = (uint)value;
        switch ((int)offset)
        {
            case Intms: _mask |= word; UpdatePin(); break;
            case Intmc: _mask &= ~word; UpdatePin(); break;
            case Cc: WriteConfiguration(word); break;
            case Aqa: _adminSizes = word & 0x0FFF_0FFF; break;
            case AsqLow: _adminSubmission = _adminSubmission & ~0xFFFF_FFFFUL | word & ~(Page - 1u); break;
            case AsqHigh: _adminSubmission = (uint)_adminSubmission | (ulong)word << 32; break;
            case AcqLow: _adminCompletion = _adminCompletion & ~0xFFFF_FFFFUL | word & ~(Page - 1u); break;
            case AcqHigh: _adminCompletion = (uint)_adminCompletion | (ulong)word << 32; break;
            case >= Doorbells when (offset & 3) == 0: Ring((int)(offset - Doorbells) / 4, word); break;
        }
    }

    void WriteConfiguration(uint value)
    {
        uint before = _configuration;
        _configuration = value;
        if ((value & ShutdownMask) != 0 && (before & ShutdownMask) == 0) _status |= ShutdownDone;
        else if ((value & ShutdownMask) == 0) _status &= ~ShutdownDone;
        if ((before & Enable) != 0 && (value & Enable) == 0)
        {
            ResetController(isPowerOn: false);
            _configuration = value;
        }
        else if ((value & ~before & Enable) != 0 && !_isStopping) Start();
    }

    /// <summary>Section 7.6.1: the admin queues, and Ready; a configuration that cannot be is fatal.</summary>
    void Start()
    {
        uint pageShift = _configuration >> 7 & 0xF, commandSet = _configuration >> 4 & 7;
        int submissionSize = (int)(_adminSizes & 0xFFF) + 1, completionSize = (int)(_adminSizes >> 16 & 0xFFF) + 1;
        if (pageShift > MostPageShift || commandSet != 0 || submissionSize < 2 || completionSize < 2
            || ((_adminSubmission | _adminCompletion) & (ulong)(PageSize - 1)) != 0)
        {
            _status |= FatalStatus;
            return;
        }
        _completion[0] = new NvmeCompletionQueue(0, _adminCompletion, completionSize, 0, interrupts: true);
        _submission[0] = new NvmeSubmissionQueue(0, _adminSubmission, submissionSize, _completion[0]!);
        _status |= Ready;
    }

    /// <summary>Section 7.3.2; the admin queues' registers keep their values. It is ready no more when what is in
    /// flight has ended: what that does in memory cannot be called back.</summary>
    void ResetController(bool isPowerOn)
    {
        if (isPowerOn) (_adminSizes, _adminSubmission, _adminCompletion) = (0, 0, 0);
        (_mask, _configuration) = (0, 0);
        Array.Clear(_submission);
        Array.Clear(_completion);
        Array.Clear(_pinned);
        _line.Clear();
        ResetEvents();
        ResetFeatures();
        UpdatePin();
        _isStopping = _inFlight > 0;
        if (!_isStopping || isPowerOn) _status = 0;
    }

    /// <summary>Nothing goes on until the driver resets it.</summary>
    void Fail(string reason)
    {
        if ((_status & FatalStatus) == 0) Log?.Invoke(reason);
        _status |= FatalStatus;
    }

    /// <summary>Hears of drivers' mistakes; null: nobody.</summary>
    public Action<string>? Log { get; init; }

    protected override void OnConfigWritten(int offset, int size) => UpdatePin();
}
