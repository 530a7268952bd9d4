using Qkvm.Core.Irq;
using Qkvm.Core.Memory;

namespace Qkvm.Hw.Intc;

/// <summary>Carries interrupt messages from IOAPIC, MSI and local APICs to the local APICs. Intel SDM volume 3,
/// sections 11.6.2 (destinations) and 11.11 (MSI formats).</summary>
/// <remarks>As a register bank it is the MSI window FEE00000h-FEEFFFFFh, for processors that write there outside their
/// own APIC page. Deviations: lowest priority arbitration prefers the lowest APIC ID among equals.</remarks>
/// <param name="acknowledgePic">The 8259's interrupt acknowledge, for ExtINT; null: no 8259.</param>
public sealed partial class ApicBus(Func<int>? acknowledgePic = null) : IMsiTarget, IRegisterBank
{
    internal const ulong MsiWindow = 0xFEE00000;
    const ulong MsiWindowMask = 0xFFFFFFFF_FFF00000;
    internal const uint RedirectionHint = 8, LogicalDestination = 4; // MSI address
    internal const uint TriggerLevel = 0x8000;                     // MSI data

    volatile LocalApic[] _locals = [];                             // replaced whole: posts read it without the lock
    readonly List<IoApic> _ioApics = [];

    internal void Attach(LocalApic local) => _locals = [.. _locals, local];
    internal void Detach(LocalApic local) => _locals = [.. _locals.Where(other => other != local)];

    /// <returns>How many there were.</returns>
    internal int Attach(IoApic ioApic)
    {
        _ioApics.Add(ioApic);
        return _ioApics.Count - 1;
    }

    public IReadOnlyList<LocalApic> LocalApics => _locals;

    /// <summary>Stands before the I/O APICs' messages; null: nothing does. Devices' own messages it takes
    /// itself.</summary>
    public IInterruptRemapper? Remapper { get; set; }

    /// <summary>The 8259's INTR: it is wired to LINT0 of every local APIC.</summary>
    public void SetIntr(bool level)
    {
        _kernel?.SetIntr(level);
        foreach (LocalApic local in _locals) local.SetLint0(level);
    }

    /// <summary>A processor listens to <see cref="SetIntr"/>.</summary>
    public bool TakesIntr => Array.Exists(_locals, static local => local.TakesExtInt);

    /// <summary>A processor has taken an interrupt.</summary>
    public event Action? Taken;

    internal void Take() => Taken?.Invoke();

    /// <summary>Such a message has been accepted and not been taken.</summary>
    internal bool IsWaiting(in InterruptMessage message)
    {
        foreach (LocalApic local in _locals)
            if (local.Matches(message) && local.IsWaiting(message.Vector)) return true;
        return false;
    }

    /// <summary>The NMI wire: LINT1 of every local APIC.</summary>
    public void SetNmi(bool level)
    {
        foreach (LocalApic local in _locals) local.SetLint1(level);
    }

    public void Send(ulong address, uint data)
    {
        if (_kernel != null) _kernel.SendMsi(address, data);
        else if (TryRead(address, data, out InterruptMessage message)) Deliver(message);
    }

    /// <summary>Fixed and lowest priority edges, which is what devices send.</summary>
    public bool TryPost(ulong address, uint data)
    {
        if (_kernel == null) return !TryRead(address, data, out InterruptMessage message) || TryPost(message);
        _kernel.SendMsi(address, data);
        return true;
    }

    public bool TryPost(in InterruptMessage message)
    {
        if (_kernel != null)
        {
            Deliver(message);
            return true;
        }
        if (message.IsLevel || message.Vector < LocalApic.FirstLegalVector
            || message.Mode is not (DeliveryMode.Fixed or DeliveryMode.LowestPriority)) return false;
        LocalApic? lowest = null;
        foreach (LocalApic local in _locals)
        {
            if (!local.Matches(message)) continue;
            if (message.Mode == DeliveryMode.Fixed) local.Post(message.Vector);
            else if (local.IsSoftwareEnabled && (lowest == null || local.ProcessorPriority < lowest.ProcessorPriority))
                lowest = local;
        }
        lowest?.Post(message.Vector);
        return true;
    }

    /// <summary>What an I/O APIC's message becomes; false where it goes nowhere.</summary>
    /// <param name="isQuestion">Nothing is sent: no fault either.</param>
    internal bool TryRoute(ulong address, uint data, out InterruptMessage message, bool isQuestion = false) =>
        Remapper is { } remapper ? remapper.TryRemapIoApic(address, data, out message, isQuestion)
            : TryRead(address, data, out message);

    /// <summary>A message as it stands. False where it goes nowhere.</summary>
    internal static bool TryRead(ulong address, uint data, out InterruptMessage message)
    {
        message = default;
        if ((address & MsiWindowMask) != MsiWindow) return false;
        bool logical = (address & LogicalDestination) != 0;
        var mode = (DeliveryMode)(data >> 8 & 7);
        if (mode == DeliveryMode.Fixed && logical && (address & RedirectionHint) != 0)
            mode = DeliveryMode.LowestPriority;
        message = new InterruptMessage((byte)data, mode, (uint)(address >> 12) & 0xFF, logical,
            (data & TriggerLevel) != 0);
        return true;
    }

    public ulong Read(ulong offset, int size) => ulong.MaxValue;
    public void Write(ulong offset, int size, ulong value) => Send(MsiWindow + offset, (uint)value);

    public void Deliver(in InterruptMessage message)
    {
        if (_kernel != null)
        {
            _kernel.SendMsi(AddressOf(message), DataOf(message));
            return;
        }
        LocalApic? lowest = null;
        foreach (LocalApic local in _locals)
        {
            if (!local.Matches(message)) continue;
            if (message.Mode != DeliveryMode.LowestPriority)
                local.Accept(message.Mode, message.Vector, message.IsLevel);
            else if (local.IsSoftwareEnabled && (lowest == null || local.ProcessorPriority < lowest.ProcessorPriority))
                lowest = local;
        }
        lowest?.Accept(DeliveryMode.Fixed, message.Vector, message.IsLevel);
    }

    /// <summary>To all but one, or (null) to all.</summary>
    internal void DeliverToAll(LocalApic? except, DeliveryMode mode, byte vector, bool isLevel)
    {
        foreach (LocalApic local in _locals)
            if (local != except) local.Accept(mode, vector, isLevel);
    }

    internal void EndOfInterrupt(int vector)
    {
        for (int i = 0; i < _ioApics.Count; i++) _ioApics[i].EndOfInterrupt(vector);
    }

    internal int AcknowledgePic() => acknowledgePic?.Invoke() ?? -1;
}
