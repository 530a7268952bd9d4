using Qkvm.Hw.Intc;

namespace Qkvm.Hw.Iommu;

/// <summary>A fault for the log.</summary>
/// <param name="Address">Of an interrupt: the index of its entry &lt;&lt; 48.</param>
readonly record struct VtdRecord(VtdFault Fault, ushort Source, ulong Address, bool IsRead);

/// <remarks>Primary fault logging and the two events: sections 7.2 and 7.3; the registers, 10.4.9 to 10.4.14.</remarks>
public sealed partial class IntelIommu
{
    const uint Overflow = 1, Pending = 2, QueueError = 1 << 4, StatusBits = Overflow | Pending | QueueError; // FSTS
    const uint EventMask = 1u << 31, EventPending = 1 << 30;       // IM and IP of FECTL and IECTL
    const uint Completed = 1;                                      // IWC of ICS
    const uint Recorded = 1u << 31;                                // F of FRCD, its highest dword
    const int MostWaiting = 8;

    readonly Action _takeFaults;
    readonly Lock _faultSync = new();
    // not migrated: moments before they are in the registers
    readonly Queue<VtdRecord> _waiting = new(MostWaiting);
    bool _isPosted;

    /// <summary>From any thread. More than fit are lost, as on the chip.</summary>
    internal void Report(in VtdRecord record)
    {
        if (_lock.IsHeld) { Log(record); return; }
        lock (_faultSync)
        {
            if (_waiting.Count < MostWaiting) _waiting.Enqueue(record);
            if (_isPosted) return;
            _isPosted = true;
        }
        _post(_takeFaults);
    }

    void TakeFaults()
    {
        while (true)
        {
            VtdRecord record;
            lock (_faultSync)
            {
                if (!_waiting.TryDequeue(out record))
                {
                    _isPosted = false;
                    return;
                }
            }
            Log(record);
        }
    }

    void Log(in VtdRecord record)
    {
        if ((this[FRCD + 12] & Recorded) != 0)
        {
            this[FSTS] |= Overflow;
            return;
        }
        const uint read = 1 << 30;
        Set64(FRCD, record.Address & ~0xFFFUL);
        this[FRCD + 8] = record.Source;
        this[FRCD + 12] = Recorded | (record.IsRead ? read : 0) | (uint)record.Fault;
        RaiseFault(Pending);
    }

    /// <summary>An event, unless another is not dealt with.</summary>
    void RaiseFault(uint bit)
    {
        bool isNew = (this[FSTS] & StatusBits) == 0;
        this[FSTS] |= bit;
        if (isNew) RaiseEvent(FECTL);
    }

    void ClearFaultStatus(uint data)
    {
        bool wasStuck = (this[FSTS] & data & QueueError) != 0;
        this[FSTS] &= ~(data & (Overflow | QueueError));
        SettleFaults();
        if (wasStuck) RunQueue();
    }

    void ClearFault(uint data)
    {
        if ((data & Recorded) == 0) return;
        this[FRCD + 12] &= ~Recorded;
        this[FSTS] &= ~Pending;
        SettleFaults();
    }

    /// <summary>Once all is dealt with nothing waits for the mask.</summary>
    void SettleFaults()
    {
        if ((this[FSTS] & StatusBits) == 0) this[FECTL] &= ~EventPending;
    }

    /// <summary>A wait descriptor asked for an interrupt.</summary>
    void Complete()
    {
        if ((this[ICS] & Completed) != 0) return;
        this[ICS] |= Completed;
        RaiseEvent(IECTL);
    }

    void ClearCompletion(uint data)
    {
        if ((data & Completed) == 0) return;
        this[ICS] &= ~Completed;
        this[IECTL] &= ~EventPending;
    }

    void RaiseEvent(int control)
    {
        if ((this[control] & EventMask) != 0) this[control] |= EventPending;
        else SendEvent(control);
    }

    void WriteEventControl(int control, uint data)
    {
        bool goes = (data & EventMask) == 0 && (this[control] & EventPending) != 0;
        this[control] = data & EventMask | (goes ? 0 : this[control] & EventPending);
        if (goes) SendEvent(control);
    }

    /// <summary>Data, address and upper address follow the control register. These messages are not remapped; with wide
    /// destinations the upper address has the destination's upper 24 bits.</summary>
    void SendEvent(int control)
    {
        const int data = 4, address = 8, upper = 12;
        if (_bus == null || !ApicBus.TryRead(this[control + address], this[control + data],
            out InterruptMessage message)) return;
        uint wide = message.Destination | this[control + upper] & ~0xFFu;
        _bus.Deliver(HasWideEntries ? message with { Destination = wide, IsWide = true } : message);
    }
}
