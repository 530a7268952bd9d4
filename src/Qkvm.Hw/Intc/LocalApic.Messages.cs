using Qkvm.Core.Accel;

namespace Qkvm.Hw.Intc;

/// <remarks>The messages of the bus, and those that come from other threads.</remarks>
public sealed partial class LocalApic
{
    readonly uint[] _posted = new uint[8];                         // not migrated: taken into IRR before saving
    volatile int _hasPosted;                                       // not migrated: as above

    /// <summary>Section 11.6.2.</summary>
    public bool Matches(in InterruptMessage message)
    {
        if (!IsEnabled) return false;
        uint target = message.Destination;
        if (target == (message.IsWide ? uint.MaxValue : 0xFF)) return true;
        if (!message.IsLogical) return target == _id;
        if (IsX2Apic) return target >> 16 == _ldr >> 16 && (target & _ldr & 0xFFFF) != 0;
        uint logicalId = _ldr >> 24;
        return _dfr >> 28 == DfrFlat ? (target & logicalId) != 0 : target >> 4 == logicalId >> 4
            && (target & logicalId & 0xF) != 0;
    }

    /// <summary>An interrupt message or a local interrupt reaches this APIC. Section 11.8.</summary>
    public void Accept(DeliveryMode mode, byte vector, bool isLevel)
    {
        if (!IsEnabled) return;
        switch (mode)
        {
            case DeliveryMode.Fixed or DeliveryMode.LowestPriority:
                if (!IsSoftwareEnabled) return;
                if (vector < FirstLegalVector) { Error(ReceiveIllegalVector); return; }
                _irr[vector] = true;
                _tmr[vector] = isLevel;
                break;
            case DeliveryMode.Nmi: _cpu.Signal(CpuSignal.Nmi); return;
            case DeliveryMode.Smi: _cpu.Signal(CpuSignal.Smi); return;
            case DeliveryMode.Init:
                ResetRegisters();
                Update();
                _cpu.Signal(CpuSignal.Init);
                return;
            case DeliveryMode.StartUp: _cpu.Signal(CpuSignal.StartUp, vector); return;
            case DeliveryMode.ExtInt: _extInt = true; break;
        }
        Update();
    }

    /// <summary>A fixed, edge triggered interrupt from any thread. It waits beside IRR, as in a posted-interrupt
    /// descriptor (section
    /// 30.6), until whoever next holds the lock looks: the processor itself, mostly.</summary>
    public void Inject(byte vector) => Post(vector);

    /// <summary>As <see cref="Inject"/>.</summary>
    internal void Post(byte vector)
    {
        if (!IsSoftwareEnabled) return;
        Interlocked.Or(ref _posted[vector >> 5], 1u << (vector & 31));
        if (Interlocked.Exchange(ref _hasPosted, 1) == 0) _cpu.InterruptPending();
    }

    void TakePosted()
    {
        if (_hasPosted == 0) return;
        Interlocked.Exchange(ref _hasPosted, 0);
        for (int i = 0; i < _posted.Length; i++)
        {
            uint vectors = Interlocked.Exchange(ref _posted[i], 0);
            if (vectors == 0 || !IsSoftwareEnabled) continue;
            _irr.Add(i, vectors);
            _tmr.Remove(i, vectors);
        }
    }
}
